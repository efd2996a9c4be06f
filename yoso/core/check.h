// Errors: what is wrong, what was got, what was expected. User errors throw, our own bugs assert.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <sstream>
#include <stdexcept>
#include <string>

namespace yoso {

// Thrown for every input that the library refuses. The message is one line.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Joins its arguments as a stream would print them.
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// "red, green, blue": what an error expected.
template <class Names>
std::string listed(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Control characters of names and texts that came from outside are shown as '?'.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::string message = join(parts...);
  for (char& c : message)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  throw Error(message);
}

}  // namespace yoso

// Inside a member function of a struct with kName. "hash: codes.cols is 6, expected x.rows = 5".
#define YOSO_CHECK_EQ(got, expected)                                                           \
  do {                                                                                         \
    if ((got) != (expected))                                                                   \
      ::yoso::fail(kName, ": " #got " is ", (got), ", expected " #expected " = ", (expected)); \
  } while (false)

// "hash: code_bits is 17, expected 1 to 16".
#define YOSO_CHECK_RANGE(got, low, high)                                                  \
  do {                                                                                    \
    if ((got) < (low) || (got) > (high))                                                  \
      ::yoso::fail(kName, ": " #got " is ", (got), ", expected ", (low), " to ", (high)); \
  } while (false)

// "hash: codes is float32, expected uint8". `expectation` is a text.
#define YOSO_CHECK(condition, what, got, expectation)                                             \
  do {                                                                                            \
    if (!(condition)) ::yoso::fail(kName, ": ", what, " is ", (got), ", expected ", expectation); \
  } while (false)

#define YOSO_DCHECK(condition) assert(condition)
