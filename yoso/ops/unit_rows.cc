// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/unit_rows.h"

#include <cmath>

#include "yoso/ops/check_rows.h"
#include "yoso/ops/reference.h"

namespace yoso {

void UnitRows::check() const {
  YOSO_CHECK(x.cols >= 1, "x.cols", x.cols, "at least 1");
  check_floating(kName, "x", x, x.batch, x.heads, x.rows, x.cols);
  if (y.data != nullptr) {
    check_floating_like(kName, "y", y, x, x.batch, x.heads, x.rows, x.cols);
  }
  check_scale(kName, "scale", scale, x);
}

void UnitRowsGrad::check() const {
  YOSO_CHECK(x.cols >= 1, "x.cols", x.cols, "at least 1");
  check_floating(kName, "x", x, x.batch, x.heads, x.rows, x.cols);
  check_scale(kName, "x_scale", x_scale, x);
  YOSO_CHECK(scale.data != nullptr || x.size() == 0, "scale", "null", "the scale of unit_rows");
  check_scale(kName, "scale", scale, x);
  check_floating_like(kName, "y_grad", y_grad, x, x.batch, x.heads, x.rows, x.cols);
  check_floating_like(kName, "x_grad", x_grad, x, x.batch, x.heads, x.rows, x.cols);
}

// The definitions, in double. Never optimise these.
void reference::unit_rows(const UnitRows& a) {
  a.check();
  for (int64_t b = 0; b < a.x.batch; ++b) {
    for (int64_t h = 0; h < a.x.heads; ++h) {
      for (int64_t i = 0; i < a.x.rows; ++i) {
        double square = 0;
        for (int64_t c = 0; c < a.x.cols; ++c) square += std::pow(value_at(a.x, b, h, i, c), 2);
        const double scale = 1 / std::max(std::sqrt(square), kUnitRowsEpsilon);
        if (a.scale.data) set_value(a.scale, b, h, 0, i, scale);
        for (int64_t c = 0; c < a.x.cols && a.y.data; ++c) {
          set_value(a.y, b, h, i, c, scale * value_at(a.x, b, h, i, c));
        }
      }
    }
  }
}

void reference::unit_rows_grad(const UnitRowsGrad& a) {
  a.check();
  for (int64_t b = 0; b < a.x.batch; ++b) {
    for (int64_t h = 0; h < a.x.heads; ++h) {
      for (int64_t i = 0; i < a.x.rows; ++i) {
        const double scale = value_at(a.scale, b, h, 0, i);
        const bool has_direction = scale < static_cast<float>(1 / kUnitRowsEpsilon);
        double along = 0;
        for (int64_t c = 0; c < a.x.cols; ++c) {
          along += unit_at(a.x, a.x_scale, b, h, i, c) * value_at(a.y_grad, b, h, i, c);
        }
        for (int64_t c = 0; c < a.x.cols; ++c) {
          const double across =
              value_at(a.y_grad, b, h, i, c) - along * unit_at(a.x, a.x_scale, b, h, i, c);
          set_value(a.x_grad, b, h, i, c, has_direction ? scale * across : 0.0);
        }
      }
    }
  }
}

}  // namespace yoso
