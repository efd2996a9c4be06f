// Tensors of one operator call as arrays: the one place that checks rank, element type and device.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "yoso/core/array.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/options.h"

namespace yoso {

// The order of a tensor's dimensions. Both may lack the first one: a batch of 1, or ragged.
enum class Layout : uint8_t {
  kTokens,  // [B, N, H, D]: what a projection gives
  kCodes,   // [B, H, M, N]: codes; scales with M = 1
};

// Arrays point into tensors; a tensor whose last dimension has gaps is copied, and the copy lives
// as long as the Arguments. Errors read "operator: argument is got, expected ...".
class Arguments {
 public:
  explicit Arguments(const char* op) : op_(op) {}

  // All must be on the device of the first one. An absent tensor gives an absent array.
  ConstArray input(const char* name, const std::optional<Tensor>& tensor, Layout layout);
  // Written in place: a last dimension with gaps is refused.
  Array output(const char* name, const Tensor& tensor, Layout layout);
  // `side` is "query" or "key", `like` an array of that side in the layout kTokens. `longest`:
  // read with offsets on a GPU.
  Rows rows(const char* side, const std::optional<Tensor>& mask,
            const std::optional<Tensor>& offsets, std::optional<int64_t> longest,
            const ConstArray& like);

 private:
  Array array(const char* name, const Tensor& tensor, Layout layout);
  void check_device(const char* name, const Tensor& tensor);

  const char* op_;
  std::optional<Tensor> first_;
  const char* first_name_ = nullptr;
  std::vector<Tensor> copies_;
};

// A fresh tensor on the device of `like` with its rank: [B, N, H, cols], or [N, H, cols].
Tensor empty_tokens(const Tensor& like, int64_t batch, int64_t rows, int64_t heads, int64_t cols,
                    ScalarType type);
// [B, H, rows, N], or [H, rows, N].
Tensor empty_codes(const Tensor& like, int64_t batch, int64_t heads, int64_t rows, int64_t cols,
                   ScalarType type);

// [0], for a result that nobody needs.
Tensor no_elements(const Tensor& like, ScalarType type);

// uint8 up to 8 bits, else uint16.
ScalarType code_type(int64_t code_bits);

// float64 for float64, else float32.
ScalarType accumulation_type(const Tensor& tensor);

// "[2, 3]": the first `rank` extents, all if absent; "cpu", "cuda:0".
std::string shape_text(const Tensor& tensor, std::optional<int64_t> rank = {});
std::string device_text(const Tensor& tensor);
bool same_device(const Tensor& a, const Tensor& b);

Gradient parse_gradient(const char* op, std::string_view name);      // "surrogate", "true"
Projection parse_projection(const char* op, std::string_view name);  // "hadamard", "gaussian"

}  // namespace yoso
