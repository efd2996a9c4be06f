// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/arguments.h"

#include <gmock/gmock.h>
#include <torch/csrc/stable/ops.h>

#include <functional>
#include <string>

#include "yoso/core/check.h"

namespace yoso {
namespace {

using torch::stable::empty;
using torch::stable::transpose;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Arguments, TransposedTensorIsReadInPlace) {
  const Tensor heads_first = empty({2, 3, 5, 7}, ScalarType::Float);
  const Tensor tokens = transpose(heads_first, 1, 2);  // [2, 5, 3, 7]
  Arguments args("op");
  const ConstArray a = args.input("x", tokens, Layout::kTokens);
  EXPECT_EQ(a.data, heads_first.const_data_ptr());
  EXPECT_EQ(a.batch, 2);
  EXPECT_EQ(a.rows, 5);
  EXPECT_EQ(a.heads, 3);
  EXPECT_EQ(a.cols, 7);
  EXPECT_EQ(a.batch_stride, 3 * 5 * 7);
  EXPECT_EQ(a.head_stride, 5 * 7);
  EXPECT_EQ(a.row_stride, 7);
}

TEST(Arguments, RaggedTensorIsABatchOfOne) {
  const Tensor codes = empty({3, 4, 9}, ScalarType::UInt16);
  Arguments args("op");
  const ConstArray a = args.input("codes", codes, Layout::kCodes);
  EXPECT_EQ(a.dtype, DType::kUint16);
  EXPECT_EQ(a.batch, 1);
  EXPECT_EQ(a.heads, 3);
  EXPECT_EQ(a.rows, 4);
  EXPECT_EQ(a.cols, 9);
}

TEST(Arguments, LastDimensionWithGapsIsCopiedForReadingOnly) {
  const Tensor x = transpose(empty({1, 2, 3, 4}, ScalarType::Float), 2, 3);
  Arguments args("op");
  const ConstArray a = args.input("x", x, Layout::kTokens);
  EXPECT_NE(a.data, x.const_data_ptr());
  EXPECT_EQ(a.row_stride, 4 * 3);
  EXPECT_EQ(message_of([&] { args.output("x", x, Layout::kTokens); }),
            "op: x has stride 4 in its last dimension, expected 1 for a tensor that is "
            "overwritten");
}

TEST(Arguments, NamesRankAndType) {
  Arguments args("op");
  EXPECT_EQ(message_of([&] {
              args.input("keys", empty({5, 4}, ScalarType::Float), Layout::kTokens);
            }),
            "op: keys is [5, 4], expected [B, N, H, D] or [total, H, D]");
  EXPECT_EQ(message_of([&] {
              args.input("keys", empty({1, 5, 1, 4}, ScalarType::Int), Layout::kTokens);
            }),
            "op: keys is of type Int, expected a floating type (or uint8 or uint16 for codes)");
}

TEST(Arguments, NamesWhatIsWrongWithMasksAndOffsets) {
  Arguments args("op");
  const ConstArray padded =
      args.input("x", empty({2, 5, 1, 4}, ScalarType::Float), Layout::kTokens);
  const auto mask = [&](const Tensor& m) {
    return message_of([&] { args.rows("key", m, {}, {}, padded); });
  };
  EXPECT_EQ(mask(empty({2, 5}, ScalarType::Bool)), "no error");
  EXPECT_EQ(mask(empty({2, 6}, ScalarType::Bool)),
            "op: key_mask is [2, 6], expected [2, 5], the batch and the rows of its side");
  EXPECT_EQ(mask(empty({2, 5}, ScalarType::Float)), "op: key_mask is of type Float, expected Bool");
  const auto offsets = [&](const Tensor& o) {
    return message_of([&] { args.rows("key", {}, o, {}, padded); });
  };
  EXPECT_EQ(offsets(empty({3}, ScalarType::Int)),
            "op: key_offsets is of type Int, expected Long (int64)");
  EXPECT_EQ(offsets(empty({0}, ScalarType::Long)),
            "op: key_offsets is [0], expected [sequences + 1]");
}

TEST(Arguments, NamesTheGradient) {
  EXPECT_EQ(message_of([] { parse_gradient("op", "exact"); }),
            "op: gradient is 'exact', expected 'surrogate' or 'true'");
}

}  // namespace
}  // namespace yoso
