// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops_language.h"

#include <array>
#include <numeric>

#include "yoso/core/check.h"
#include "yoso/tasks/lines.h"

namespace yoso::listops {
namespace {

constexpr std::array<std::string_view, 4> kOperators = {"[MAX", "[MED", "[MIN", "[SM"};

bool separates(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '(' || c == ')';
}

// Symbol of a word without separators and without ']'.
uint8_t symbol_of(std::string_view word) {
  if (word.size() == 1 && word[0] >= '0' && word[0] <= '9') {
    return static_cast<uint8_t>(word[0] - '0');
  }
  for (size_t i = 0; i < kOperators.size(); ++i) {
    if (word == kOperators[i]) return static_cast<uint8_t>(kMax + i);
  }
  fail("word is ", in_quotes(word), ", expected a digit, [MAX, [MED, [MIN, [SM or ]");
}

// How often each digit occurs among an operator's arguments: all that its value depends on.
using Counts = std::array<int64_t, 10>;

// The argument at `rank`, 0 being the smallest.
int64_t ranked(const Counts& counts, int64_t rank) {
  int64_t digit = 0;
  while (rank >= counts[static_cast<size_t>(digit)]) rank -= counts[static_cast<size_t>(digit++)];
  return digit;
}

int64_t value_of(uint8_t op, const Counts& counts) {
  const int64_t args = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (args == 0) fail("expression has an operator without arguments, expected 1 or more");
  switch (op) {
    case kMin:
      return ranked(counts, 0);
    case kMax:
      return ranked(counts, args - 1);
    case kMed:
      return (ranked(counts, (args - 1) / 2) + ranked(counts, args / 2)) / 2;
    default: {
      int64_t sum = 0;
      for (size_t digit = 0; digit < counts.size(); ++digit) {
        sum += static_cast<int64_t>(digit) * counts[digit];
      }
      return sum % 10;
    }
  }
}

}  // namespace

std::vector<uint8_t> parse(std::string_view text) {
  std::vector<uint8_t> symbols;
  for (size_t i = 0; i < text.size();) {
    if (separates(text[i])) {
      ++i;
    } else if (text[i] == ']') {
      symbols.push_back(kClose);
      ++i;
    } else {
      const size_t begin = i;
      while (i < text.size() && !separates(text[i]) && text[i] != ']') ++i;
      symbols.push_back(symbol_of(text.substr(begin, i - begin)));
    }
  }
  return symbols;
}

std::string nested_text(std::span<const uint8_t> expression) {
  std::vector<int64_t> args(expression.size());  // of the operator at a position
  std::vector<size_t> open;
  for (size_t i = 0; i < expression.size(); ++i) {
    if (expression[i] == kClose) {
      open.pop_back();
      continue;
    }
    if (!open.empty()) ++args[open.back()];
    if (is_operator(expression[i])) open.push_back(i);
  }

  std::string text;
  text.reserve(expression.size() * 8);
  int64_t depth = 0;
  for (size_t i = 0; i < expression.size(); ++i) {
    const uint8_t symbol = expression[i];
    if (i > 0) text += ' ';
    if (is_operator(symbol)) {
      ++depth;
      // One pair for each argument and one for the closing bracket.
      for (int64_t pair = 0; pair <= args[i]; ++pair) text += "( ";
      text += kOperators[symbol - kMax];
      continue;
    }
    if (symbol == kClose) {
      --depth;
      text += "] )";
    } else {
      text += static_cast<char>('0' + symbol);
    }
    if (depth > 0) text += " )";  // an argument ends here, and so does its pair
  }
  return text;
}

int64_t evaluate(std::span<const uint8_t> expression) {
  struct Open {
    uint8_t op;
    Counts counts{};
  };
  std::vector<Open> open;
  for (size_t i = 0; i < expression.size(); ++i) {
    int64_t value = expression[i];
    if (is_operator(expression[i])) {
      open.push_back({expression[i]});
      continue;
    }
    if (expression[i] == kClose) {
      if (open.empty()) fail("expression has a ] without its operator");
      value = value_of(open.back().op, open.back().counts);
      open.pop_back();
    }
    if (!open.empty()) {
      ++open.back().counts[static_cast<size_t>(value)];
    } else if (i + 1 == expression.size()) {
      return value;
    } else {
      fail("expression goes on after its end, at symbol ", i + 2);
    }
  }
  if (open.empty()) fail("expression is empty, expected a digit or an operator");
  fail("expression ends before the ] of ", open.size(), " of its operators");
}

}  // namespace yoso::listops
