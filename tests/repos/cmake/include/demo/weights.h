#pragma once

namespace demo {
inline int weight(int at) { return at % 3 + 1; }
}
