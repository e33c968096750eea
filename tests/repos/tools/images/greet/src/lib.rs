/// The greeting, with a number that the crate has written.
pub fn greeting(crates: u32) -> String {
    format!("hello, {} crates", itoa::Buffer::new().format(crates))
}
