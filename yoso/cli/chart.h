// Line charts as one SVG: linear or logarithmic axes, a legend, labels at the ends of the lines.
// Readable in light and dark, in colour and without; no script, no font file, no other resource.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yoso {

enum class Scale : uint8_t {
  kLinear,
  kLog,   // ticks at 1, 2, 5 times powers of ten
  kLog2,  // ticks at powers of two: lengths
};

struct Axis {
  std::string label;
  Scale scale = Scale::kLinear;
};

// Points in the order of x. A point that an axis cannot show (NaN, infinite, or not positive on a
// logarithmic axis) is left out and interrupts the line.
struct Series {
  std::string name;
  std::vector<double> x, y;  // same length
};

struct Chart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
};

// The charts, two to a row, under one legend: a name has the same colour and
// dashes in all of them. Throws Error when a series has x and y of different lengths.
std::string svg(const std::vector<Chart>& charts);

// Text as it may stand in XML and HTML, between tags and in quoted attributes.
std::string escape_markup(std::string_view text);

// 12345.678 as "12,346", 0.01234 as "0.0123": three significant digits or all integer ones.
std::string format_number(double value);

}  // namespace yoso
