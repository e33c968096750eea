#include <map>
#include <regex>
#include <string>

int part02(const std::string& text) {
  std::map<std::string, int> seen;
  std::regex word("[a-z]+02");
  for (std::sregex_iterator at(text.begin(), text.end(), word), end; at != end; ++at) ++seen[at->str()];
  return static_cast<int>(seen.size());
}
