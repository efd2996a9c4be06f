// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/tensorboard.h"

#include <gmock/gmock.h>

namespace yoso {
namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    text += "0123456789abcdef"[c & 15];
  }
  return text;
}

TEST(Tensorboard, Crc32cMatchesItsStandard) {  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

// Written by RecordWriter and event_pb2 of the Python package tensorboard 2.21.
TEST(Tensorboard, FramesAreThoseOfTensorboard) {
  EXPECT_EQ(hex(tensorboard_header(1.5)),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
  EXPECT_EQ(hex(tensorboard_scalar(2.5, 300, "train/loss", 0.5f)),
            "2100000000000000017becf609000000000000044010ac022a130a110a0a747261696e2f6c6f7373"
            "150000003f0cb83673");
}

}  // namespace
}  // namespace yoso
