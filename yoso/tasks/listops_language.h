// The language of ListOps (Nangia and Bowman, 2018): expressions over digits such as
// [MAX 4 [SM 7 8 ] 2 ], whose value is again a digit.
//
// MIN and MAX; SM is the sum modulo 10; MED the median, with the mean of the two middle values
// truncated when there is an even number of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace yoso::listops {

// Symbols: the digits are 0 to 9, then these. Files and trained models depend on the order.
enum Symbol : uint8_t { kClose = 10, kMax = 11, kMed = 12, kMin = 13, kSm = 14 };
inline constexpr int64_t kNumSymbols = 15;

inline bool is_operator(uint8_t symbol) { return symbol >= kMax; }

// Symbols of a text such as "( ( ( [MAX 4 ) 5 ) ] )" or "[MAX 4 5]": parentheses and white space
// only separate. Throws Error, naming the word, when there is anything else in it.
std::vector<uint8_t> parse(std::string_view text);

// The text that the public data sets hold: arguments folded from the left, each pair printed as
// "( x y )". `expression` is whole: evaluate() accepts it.
std::string nested_text(std::span<const uint8_t> expression);

// The value, 0 to 9. Throws Error when the symbols are not one whole expression.
int64_t evaluate(std::span<const uint8_t> expression);

}  // namespace yoso::listops
