// Scalars for TensorBoard: a file of TFRecord frames, each an Event message written by hand.
//
//   frame: u64 length, u32 masked CRC-32C of it, the message, u32 masked CRC-32C of the message
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace yoso {

// CRC-32C (Castagnoli), reflected, as in RFC 3720.
uint32_t crc32c(std::string_view bytes);

// The first frame of a file; `time` in seconds since 1970.
std::string tensorboard_header(double time);

// A frame that holds one scalar.
std::string tensorboard_scalar(double time, int64_t step, std::string_view tag, float value);

}  // namespace yoso
