#include <map>
#include <string>

int part01(const std::string& text) {
  std::map<std::string, int> seen;
  for (std::size_t at = 0; at + 2 <= text.size(); ++at) ++seen[text.substr(at, 2) + "01"];
  return static_cast<int>(seen.size());
}
