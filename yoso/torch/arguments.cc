// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/arguments.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "yoso/core/check.h"

namespace yoso {

std::string shape_text(const Tensor& tensor, std::optional<int64_t> rank) {
  std::string text = "[";
  for (int64_t i = 0; i < rank.value_or(tensor.dim()); ++i) {
    text += (i ? ", " : "") + std::to_string(tensor.size(i));
  }
  return text + "]";
}

std::string device_text(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  if (tensor.is_cuda()) return join("cuda:", tensor.get_device_index());
  return join("device type ", static_cast<int>(tensor.device().type()));
}

bool same_device(const Tensor& a, const Tensor& b) {
  return a.device().type() == b.device().type() && a.get_device_index() == b.get_device_index();
}

namespace {

DType dtype_of(const char* op, const char* name, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Double:
      return DType::kFloat64;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::Byte:
      return DType::kUint8;
    case ScalarType::UInt16:
      return DType::kUint16;
    default:
      fail(op, ": ", name, " is of type ", torch::headeronly::toString(tensor.scalar_type()),
           ", expected a floating type (or uint8 or uint16 for codes)");
  }
}

// What torch says about memory that is short goes to standard error, not into an exception.
Tensor fresh(const Tensor& like, std::vector<int64_t> sizes, ScalarType type) {
  try {
    return torch::stable::new_empty(like, sizes, type);
  } catch (const std::runtime_error&) {
    if (!like.is_cuda()) throw;
    std::string text;
    for (const int64_t size : sizes) text += join(text.empty() ? "" : ", ", size);
    fail("GPU memory: a result of [", text,
         "] does not fit, expected it to; a smaller batch needs ", "less");
  }
}

bool has_gaps(const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  return last >= 0 && tensor.size(last) > 1 && tensor.stride(last) != 1;
}

}  // namespace

void Arguments::check_device(const char* name, const Tensor& tensor) {
#ifndef YOSO_CUDA
  if (tensor.is_cuda()) {
    fail(op_, ": ", name, " is on ", device_text(tensor),
         ", expected cpu: yoso was built without CUDA");
  }
#endif
  if (!first_) {
    first_ = tensor;
    first_name_ = name;
  } else if (!same_device(tensor, *first_)) {
    fail(op_, ": ", name, " is on ", device_text(tensor), ", expected ", device_text(*first_),
         ", the device of ", first_name_);
  }
}

Array Arguments::array(const char* name, const Tensor& tensor, Layout layout) {
  const int64_t rank = tensor.dim();
  if (rank != 3 && rank != 4) {
    fail(op_, ": ", name, " is ", shape_text(tensor), ", expected ",
         layout == Layout::kTokens ? "[B, N, H, D] or [total, H, D]"
                                   : "[B, H, M, N] or [H, M, total]");
  }
  Array a{.dtype = dtype_of(op_, name, tensor)};
  a.batch = rank == 4 ? tensor.size(0) : 1;
  a.batch_stride = rank == 4 ? tensor.stride(0) : 0;
  const int64_t head = rank - (layout == Layout::kTokens ? 2 : 3);
  const int64_t row = rank - (layout == Layout::kTokens ? 3 : 2);
  a.heads = tensor.size(head);
  a.head_stride = tensor.stride(head);
  a.rows = tensor.size(row);
  a.row_stride = tensor.stride(row);
  a.cols = tensor.size(rank - 1);
  return a;
}

ConstArray Arguments::input(const char* name, const std::optional<Tensor>& tensor, Layout layout) {
  if (!tensor) return {};
  check_device(name, *tensor);
  const Tensor* source = &*tensor;
  if (has_gaps(*tensor)) source = &copies_.emplace_back(torch::stable::contiguous(*tensor));
  ConstArray a = array(name, *source, layout);
  a.data = source->const_data_ptr();
  return a;
}

Array Arguments::output(const char* name, const Tensor& tensor, Layout layout) {
  check_device(name, tensor);
  if (has_gaps(tensor)) {
    fail(op_, ": ", name, " has stride ", tensor.stride(tensor.dim() - 1),
         " in its last dimension, expected 1 for a tensor that is overwritten");
  }
  Array a = array(name, tensor, layout);
  a.data = tensor.mutable_data_ptr();
  return a;
}

Rows Arguments::rows(const char* side, const std::optional<Tensor>& mask,
                     const std::optional<Tensor>& offsets, std::optional<int64_t> longest,
                     const ConstArray& like) {
  Rows rows;
  if (offsets) {
    if (!offsets->is_cpu()) {
      check_device(join(side, "_offsets").c_str(), *offsets);
      if (!longest || *longest < 0) {
        fail(op_, ": ", side, "_offsets is on ", device_text(*offsets),
             longest ? join(" with longest = ", *longest) : " without longest",
             ", expected cpu, or longest: at least the rows of the longest sequence");
      }
      rows.longest = std::max<int64_t>(1, *longest);
    }
    if (offsets->scalar_type() != ScalarType::Long) {
      fail(op_, ": ", side, "_offsets is of type ",
           torch::headeronly::toString(offsets->scalar_type()), ", expected Long (int64)");
    }
    if (offsets->dim() != 1 || offsets->size(0) < 1) {
      fail(op_, ": ", side, "_offsets is ", shape_text(*offsets), ", expected [sequences + 1]");
    }
    rows.offsets =
        copies_.emplace_back(torch::stable::contiguous(*offsets)).const_data_ptr<int64_t>();
    rows.sequences = offsets->size(0) - 1;
  }
  if (mask) {
    const std::string name = join(side, "_mask");
    check_device(name.c_str(), *mask);
    if (mask->scalar_type() != ScalarType::Bool) {
      fail(op_, ": ", name, " is of type ", torch::headeronly::toString(mask->scalar_type()),
           ", expected Bool");
    }
    const int64_t rank = mask->dim();
    if (rank < 1 || rank > 2 || mask->size(rank - 1) != like.rows ||
        (rank == 2 ? mask->size(0) : 1) != like.batch) {
      fail(op_, ": ", name, " is ", shape_text(*mask), ", expected [", like.batch, ", ", like.rows,
           "], the batch and the rows of its side");
    }
    const Tensor& real =
        has_gaps(*mask) ? copies_.emplace_back(torch::stable::contiguous(*mask)) : *mask;
    rows.mask = real.const_data_ptr<bool>();
    rows.mask_stride = rank == 2 ? real.stride(0) : 0;
  }
  return rows;
}

Tensor empty_tokens(const Tensor& like, int64_t batch, int64_t rows, int64_t heads, int64_t cols,
                    ScalarType type) {
  return like.dim() == 4 ? fresh(like, {batch, rows, heads, cols}, type)
                         : fresh(like, {rows, heads, cols}, type);
}

Tensor empty_codes(const Tensor& like, int64_t batch, int64_t heads, int64_t rows, int64_t cols,
                   ScalarType type) {
  return like.dim() == 4 ? fresh(like, {batch, heads, rows, cols}, type)
                         : fresh(like, {heads, rows, cols}, type);
}

Tensor no_elements(const Tensor& like, ScalarType type) { return fresh(like, {0}, type); }

ScalarType code_type(int64_t code_bits) {
  return code_dtype(code_bits) == DType::kUint8 ? ScalarType::Byte : ScalarType::UInt16;
}

ScalarType accumulation_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Gradient parse_gradient(const char* op, std::string_view name) {
  if (const auto gradient = named<Gradient>(name)) return *gradient;
  fail(op, ": gradient is '", name, "', expected 'surrogate' or 'true'");
}

Projection parse_projection(const char* op, std::string_view name) {
  if (const auto projection = named<Projection>(name)) return *projection;
  fail(op, ": projection is '", name, "', expected 'hadamard' or 'gaussian'");
}

}  // namespace yoso
