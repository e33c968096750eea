#pragma once
namespace demo {
inline int plugged(int value) { return value ^ 5; }
}
