// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/tensorboard.h"

#include <array>
#include <bit>

namespace yoso {
namespace {

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    table[i] = crc;
  }
  return table;
}();

// TensorFlow rotates and shifts a checksum, so that one stored among data is not a fixed point.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

std::string varint(uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text += static_cast<char>(value | 0x80);
  return text + static_cast<char>(value);
}

// Protocol buffer fields: (number << 3 | type), then the value.
std::string fixed64(int field, double value) {
  return varint(field << 3 | 1) + little_endian(std::bit_cast<uint64_t>(value), 8);
}
std::string fixed32(int field, float value) {
  return varint(field << 3 | 5) + little_endian(std::bit_cast<uint32_t>(value), 4);
}
std::string integer(int field, int64_t value) {
  return varint(field << 3) + varint(static_cast<uint64_t>(value));
}
std::string message(int field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

std::string frame(const std::string& event) {
  const std::string length = little_endian(event.size(), 8);
  return length + little_endian(masked_crc(length), 4) + event +
         little_endian(masked_crc(event), 4);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes)
    crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 255];
  return ~crc;
}

std::string tensorboard_header(double time) {
  return frame(fixed64(/*wall_time*/ 1, time) + message(/*file_version*/ 3, "brain.Event:2"));
}

std::string tensorboard_scalar(double time, int64_t step, std::string_view tag, float value) {
  const std::string scalar = message(/*tag*/ 1, tag) + fixed32(/*simple_value*/ 2, value);
  return frame(fixed64(/*wall_time*/ 1, time) + integer(/*step*/ 2, step) +
               message(/*summary*/ 5, message(/*value*/ 1, scalar)));
}

}  // namespace yoso
