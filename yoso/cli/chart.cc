// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "yoso/core/check.h"

namespace yoso {
namespace {

constexpr double kWidth = 470, kHeight = 320;  // one chart, margins included
constexpr double kLeft = 66, kTop = 38, kBottom = 48;
constexpr double kLegendRow = 22, kLabelHeight = 13;
constexpr double kCharacter = 7.2;    // a generous mean width of one
constexpr size_t kLabelLength = 20;   // characters of a name beside its line
constexpr size_t kMarkedPoints = 40;  // longer series are lines without markers

// Colours of Okabe and Ito (distinct under every common colour blindness), darkened for a white
// ground and lightened for a dark one to a contrast of at least 4.5 : 1. Dashes repeat the
// distinction for print.
constexpr std::array kLight = {"#0067a5", "#b34700", "#007a5a", "#a0457f", "#5f5f5f", "#7a6a00"};
constexpr std::array kDark = {"#6cc0f5", "#ff9e4f", "#3fd0a4", "#f09bcb", "#c4c4c4", "#e8d44d"};
constexpr std::array kDashes = {"none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2"};

std::string style() {
  std::string text =
      "<style>.yoso-chart text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#1f2328}"
      ".yoso-chart .title{font-weight:600;font-size:13px}"
      ".yoso-chart .ground{fill:#fff}.yoso-chart .grid{stroke:#d9dee3;stroke-width:1}"
      ".yoso-chart .line{fill:none;stroke-width:2;stroke-linejoin:round}";
  std::string dark =
      "@media(prefers-color-scheme:dark){.yoso-chart text{fill:#e6edf3}"
      ".yoso-chart .ground{fill:#0d1117}.yoso-chart .grid{stroke:#30363d}";
  for (size_t i = 0; i < kLight.size(); ++i) {
    const auto rules = [&](const char* colour) {
      return join(".yoso-chart .s", i, "{stroke:", colour, "}.yoso-chart .f", i, "{fill:", colour,
                  "}");
    };
    text += rules(kLight[i]);
    dark += rules(kDark[i]);
  }
  for (size_t i = 0; i < kDashes.size(); ++i)
    text += join(".yoso-chart .d", i, "{stroke-dasharray:", kDashes[i], "}");
  return text + dark + "}</style>\n";
}

std::string coordinate(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

bool can_show(double value, Scale scale) {
  return std::isfinite(value) && (scale == Scale::kLinear || value > 0);
}

bool can_show(const Chart& chart, const Series& series, size_t i) {
  return can_show(series.x[i], chart.x.scale) && can_show(series.y[i], chart.y.scale);
}

// Lengths are written short: 256, 1K, 64K, 1M.
std::string tick_text(double value, Scale scale) {
  if (scale != Scale::kLog2 || value < 1024 || std::fmod(value, 1024) != 0)
    return format_number(value);
  const bool mebi = value >= 1048576;
  return format_number(value / (mebi ? 1048576 : 1024)) + (mebi ? "M" : "K");
}

// Values to positions in [0, 1], and where to write numbers.
class Range {
 public:
  Range(Scale scale, double low, double high) : scale_(scale) {
    if (scale == Scale::kLinear) {
      const double step = even_step(high > low ? high - low : std::max(std::abs(high), 1.0));
      low_ = std::floor(low / step + 1e-9) * step;
      high_ = std::max(std::ceil(high / step - 1e-9) * step, low_ + step);
      add_even_ticks(low_, high_, step);
      return;
    }
    low_ = std::log2(low), high_ = std::log2(high);
    const double room = 0.04 * std::max(high_ - low_, 1.0);
    low_ -= room, high_ += room;
    if (scale == Scale::kLog2) {
      const double step = std::ceil((high_ - low_) / 8);
      for (double e = std::ceil(low_); e <= high_; e += step) ticks_.push_back(std::exp2(e));
    } else {
      add_decimal_ticks();
    }
    if (ticks_.size() < (scale == Scale::kLog2 ? 1 : 3)) {  // a narrow range
      ticks_.clear();
      const double from = std::exp2(low_), to = std::exp2(high_);
      add_even_ticks(from, to, even_step(to - from));
    }
  }

  double operator()(double value) const {
    return ((scale_ == Scale::kLinear ? value : std::log2(value)) - low_) / (high_ - low_);
  }
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  // 1, 2 or 5 times a power of ten, about a fifth of `room`.
  static double even_step(double room) {
    const double power = std::pow(10, std::floor(std::log10(room / 5)));
    for (const double digit : {1, 2, 5})
      if (room / 5 <= digit * power) return digit * power;
    return 10 * power;
  }

  void add_even_ticks(double low, double high, double step) {
    const double first = std::ceil(low / step - 1e-9);
    for (int i = 0; i < 20 && (first + i) * step <= high + 1e-9 * step; ++i)
      ticks_.push_back((first + i) * step);
  }

  void add_decimal_ticks() {
    const double decades = (high_ - low_) / std::log2(10.0), step = std::ceil(decades / 8);
    for (double e = std::floor(low_ / std::log2(10.0)); e <= high_ / std::log2(10.0); e += step) {
      for (const double digit : {1, 2, 5}) {
        const double tick = digit * std::pow(10, e);
        if (digit > 1 && decades > 2.5) break;
        if (std::log2(tick) >= low_ && std::log2(tick) <= high_) ticks_.push_back(tick);
      }
    }
  }

  Scale scale_;
  double low_, high_;
  std::vector<double> ticks_;
};

struct Label {
  double y;
  size_t style;
  std::string name;
};

class Drawing {
 public:
  explicit Drawing(const std::vector<Chart>& charts) {
    for (const Chart& chart : charts) {
      for (const Series& series : chart.series) {
        if (series.x.size() != series.y.size())
          fail("chart: series '", series.name, "' has ", series.y.size(), " y values, expected ",
               series.x.size());
        if (std::find(names_.begin(), names_.end(), series.name) == names_.end())
          names_.push_back(series.name);
      }
    }
    size_t longest = 0;
    for (const std::string& name : names_) longest = std::max(longest, name.size());
    right_ = 16 + kCharacter * static_cast<double>(std::min(longest, kLabelLength));
  }

  // Adds one row or more, as `width` demands, and moves *bottom below them.
  std::string legend(double width, double* bottom) const {
    std::string text;
    double x = kLeft, y = kLegendRow;
    for (size_t i = 0; i < names_.size(); ++i) {
      const double extent = 56 + kCharacter * static_cast<double>(names_[i].size());
      if (x > kLeft && x + extent > width) x = kLeft, y += kLegendRow;
      text += join("<path class=\"line ", stroke(i), "\" d=\"M", coordinate(x), " ",
                   coordinate(y - 4), "h26\"/><text x=\"", coordinate(x + 32), "\" y=\"",
                   coordinate(y), "\">", escape_markup(names_[i]), "</text>\n");
      x += extent;
    }
    *bottom = y + 8;
    return text;
  }

  std::string panel(const Chart& chart) const {
    std::string text = join("<text class=\"title\" x=\"", kLeft, "\" y=\"20\">",
                            escape_markup(chart.title), "</text>\n");
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    double x_low = kInfinity, x_high = -kInfinity, y_low = kInfinity, y_high = -kInfinity;
    for (const Series& series : chart.series) {
      for (size_t i = 0; i < series.x.size(); ++i) {
        if (!can_show(chart, series, i)) continue;
        x_low = std::min(x_low, series.x[i]), x_high = std::max(x_high, series.x[i]);
        y_low = std::min(y_low, series.y[i]), y_high = std::max(y_high, series.y[i]);
      }
    }
    if (x_low > x_high)
      return text + join("<text x=\"", kLeft, "\" y=\"", kHeight / 2, "\">no data</text>\n");

    const Range x_range(chart.x.scale, x_low, x_high), y_range(chart.y.scale, y_low, y_high);
    text += axes(chart, x_range, y_range);
    std::vector<Label> labels;
    for (const Series& series : chart.series)
      text += line(chart, series, x_range, y_range, &labels);
    return text + draw(std::move(labels));
  }

 private:
  double to_x(double share) const { return kLeft + share * (kWidth - kLeft - right_); }
  static double to_y(double share) {
    return kHeight - kBottom - share * (kHeight - kTop - kBottom);
  }
  static std::string shorten(const std::string& name) {
    if (name.size() <= kLabelLength) return name;
    size_t end = kLabelLength - 2;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0u) == 0x80u) --end;  // UTF-8
    return name.substr(0, end) + "..";
  }
  // Names that share a colour differ in their dashes.
  static std::string stroke(size_t style) {
    return join("s", style % kLight.size(), " d", (style + style / kLight.size()) % kDashes.size());
  }
  static std::string fill(size_t style) { return join("f", style % kLight.size()); }

  std::string axes(const Chart& chart, const Range& x_range, const Range& y_range) const {
    const std::string left = coordinate(to_x(0)), right = coordinate(to_x(1));
    const std::string top = coordinate(to_y(1)), bottom = coordinate(to_y(0));
    std::string text;
    for (double tick : y_range.ticks()) {
      const double y = to_y(y_range(tick));
      text += join("<path class=\"grid\" d=\"M", left, " ", coordinate(y), "H", right,
                   "\"/><text text-anchor=\"end\" x=\"", coordinate(to_x(0) - 6), "\" y=\"",
                   coordinate(y + 4), "\">", format_number(tick), "</text>\n");
    }
    for (double tick : x_range.ticks()) {
      const std::string x = coordinate(to_x(x_range(tick)));
      text += join("<path class=\"grid\" d=\"M", x, " ", top, "V", bottom,
                   "\"/><text text-anchor=\"middle\" x=\"", x, "\" y=\"", coordinate(to_y(0) + 16),
                   "\">", tick_text(tick, chart.x.scale), "</text>\n");
    }
    const std::string middle = coordinate((to_y(0) + to_y(1)) / 2);
    return text + join("<text text-anchor=\"middle\" x=\"", coordinate((to_x(0) + to_x(1)) / 2),
                       "\" y=\"", coordinate(kHeight - 12), "\">", escape_markup(chart.x.label),
                       "</text>\n<text text-anchor=\"middle\" x=\"14\" y=\"", middle,
                       "\" transform=\"rotate(-90 14 ", middle, ")\">",
                       escape_markup(chart.y.label), "</text>\n");
  }

  std::string line(const Chart& chart, const Series& series, const Range& x_range,
                   const Range& y_range, std::vector<Label>* labels) const {
    const auto name = std::find(names_.begin(), names_.end(), series.name);
    const auto style = static_cast<size_t>(name - names_.begin());
    const size_t count = series.x.size();
    std::string path, markers;
    double last_y = std::numeric_limits<double>::quiet_NaN();
    bool pen_down = false;
    for (size_t i = 0; i < count; ++i) {
      if (!can_show(chart, series, i)) {
        pen_down = false;
        continue;
      }
      const double x = to_x(x_range(series.x[i]));
      last_y = to_y(y_range(series.y[i]));
      const bool alone = !pen_down && (i + 1 == count || !can_show(chart, series, i + 1));
      path += join(pen_down ? "L" : "M", coordinate(x), " ", coordinate(last_y));
      pen_down = true;
      if (count <= kMarkedPoints || alone)
        markers += join("<circle class=\"", fill(style), "\" cx=\"", coordinate(x), "\" cy=\"",
                        coordinate(last_y), "\" r=\"3\"><title>", escape_markup(series.name), ": ",
                        format_number(series.x[i]), ", ", format_number(series.y[i]),
                        "</title></circle>\n");
    }
    if (path.empty()) return "";
    labels->push_back({last_y, style, series.name});
    return join("<path class=\"line ", stroke(style), "\" d=\"", path, "\"/>\n", markers);
  }

  // Labels stand at the right of their lines, moved apart where they would overlap.
  std::string draw(std::vector<Label> labels) const {
    std::stable_sort(labels.begin(), labels.end(),
                     [](const Label& a, const Label& b) { return a.y < b.y; });
    for (size_t i = 1; i < labels.size(); ++i)
      labels[i].y = std::max(labels[i].y, labels[i - 1].y + kLabelHeight);
    double limit = to_y(0);
    std::string text;
    for (size_t i = labels.size(); i-- > 0; limit -= kLabelHeight) {
      labels[i].y = limit = std::min(labels[i].y, limit);
      text += join("<text class=\"", fill(labels[i].style), "\" x=\"", coordinate(to_x(1) + 8),
                   "\" y=\"", coordinate(labels[i].y + 4), "\">",
                   escape_markup(shorten(labels[i].name)), "</text>\n");
    }
    return text;
  }

  std::vector<std::string> names_;  // in order of appearance: the index is the style
  double right_ = 0;                // margin that holds the labels
};

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        // Control characters are illegal in XML, even escaped.
        escaped += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?' : c;
    }
  }
  return escaped;
}

std::string format_number(double value) {
  char text[64];
  if (!std::isfinite(value)) return "-";
  if (std::abs(value) < 999.5) {
    std::snprintf(text, sizeof text, "%.3g", std::abs(value) < 1e-12 ? 0.0 : value);
    return text;
  }
  std::snprintf(text, sizeof text, "%.0f", value);
  std::string grouped;
  const size_t digits = std::strlen(text) - (value < 0 ? 1 : 0);
  for (size_t left = std::strlen(text); left > 0; --left) {
    if (left % 3 == 0 && left < digits) grouped += ',';
    grouped += text[std::strlen(text) - left];
  }
  return grouped;
}

std::string svg(const std::vector<Chart>& charts) {
  const Drawing drawing(charts);
  const int across = charts.size() < 2 ? 1 : 2;
  const int down = std::max(1, (static_cast<int>(charts.size()) + across - 1) / across);
  double top = 0;
  const std::string legend = drawing.legend(across * kWidth, &top);
  const std::string width = coordinate(across * kWidth), height = coordinate(down * kHeight + top);
  std::string text =
      join("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"yoso-chart\" role=\"img\" width=\"",
           width, "\" height=\"", height, "\" viewBox=\"0 0 ", width, " ", height, "\">\n", style(),
           "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n", legend);
  for (size_t i = 0; i < charts.size(); ++i) {
    const auto column = static_cast<int>(i) % across, row = static_cast<int>(i) / across;
    text += join("<g transform=\"translate(", coordinate(column * kWidth), " ",
                 coordinate(row * kHeight + top), ")\">\n", drawing.panel(charts[i]), "</g>\n");
  }
  return text + "</svg>\n";
}

}  // namespace yoso
