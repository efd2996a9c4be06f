// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "yoso/core/check.h"

namespace yoso {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the format's own implementation
constexpr size_t kMaxRank = 64;

struct DTypeSize {
  std::string_view name;
  uint64_t size;
};
constexpr std::array kDTypes = {
    DTypeSize{"BOOL", 1},    DTypeSize{"U8", 1},  DTypeSize{"I8", 1},  DTypeSize{"F8_E5M2", 1},
    DTypeSize{"F8_E4M3", 1}, DTypeSize{"I16", 2}, DTypeSize{"U16", 2}, DTypeSize{"F16", 2},
    DTypeSize{"BF16", 2},    DTypeSize{"I32", 4}, DTypeSize{"U32", 4}, DTypeSize{"F32", 4},
    DTypeSize{"I64", 8},     DTypeSize{"U64", 8}, DTypeSize{"F64", 8},
};

uint64_t element_size(std::string_view dtype) {  // 0 when unknown
  const auto* found = std::ranges::find(kDTypes, dtype, &DTypeSize::name);
  return found == kDTypes.end() ? 0 : found->size;
}

struct Entry {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<int64_t> offsets;
};

// Reads the header as it is parsed, so that its size and depth are bounded and a name that comes
// twice is seen. parse() returns false after the first fault, which is in `error`.
class HeaderReader : public json::json_sax_t {
 public:
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) return enter(State::kTop);
    if (state_ == State::kTop) {
      if (key_ == "__metadata__") return enter(State::kMetadata);
      fields_.clear();
      return enter(State::kEntry);
    }
    return refuse("an object", expected());
  }

  bool key(string_t& text) override {
    if (state_ == State::kTop) {
      key_ = text;
      if (!names_.insert(text).second) return refuse_text("the name \"" + text + "\" comes twice");
    } else if (state_ == State::kMetadata) {
      field_ = text;
      if (metadata.contains(text))
        return refuse_text("the name \"" + text + "\" comes twice in __metadata__");
    } else {
      field_ = text;
      if (text != "dtype" && text != "shape" && text != "data_offsets")
        return refuse_text(tensor() + " has a field \"" + text +
                           "\", expected dtype, shape and data_offsets");
      if (!fields_.insert(text).second)
        return refuse_text(tensor() + " has the field " + text + " twice");
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::kEntry && fields_.size() != 3)
      return refuse_text(tensor() + " lacks a field, expected dtype, shape and data_offsets");
    return enter(state_ == State::kTop ? State::kEnd : State::kTop);
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kEntry && field_ != "dtype") return enter(State::kArray);
    return refuse("an array", expected());
  }

  bool end_array() override { return enter(State::kEntry); }

  bool string(string_t& text) override {
    if (state_ == State::kMetadata) {
      metadata[field_] = text;
      return true;
    }
    if (state_ == State::kEntry && field_ == "dtype") {
      entries[key_].dtype = text;
      return true;
    }
    return refuse("a string", expected());
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::kArray) return refuse("a number", expected());
    Entry& entry = entries[key_];
    std::vector<int64_t>& numbers = field_ == "shape" ? entry.shape : entry.offsets;
    if (numbers.size() == kMaxRank || value > std::numeric_limits<int64_t>::max())
      return refuse_text(tensor() + " has a " + field_ + " out of range");
    numbers.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool null() override { return refuse("null", expected()); }
  bool boolean(bool) override { return refuse("a boolean", expected()); }
  bool number_integer(number_integer_t) override { return refuse("a negative number", expected()); }
  bool number_float(number_float_t, const string_t&) override {
    return refuse("a fraction", expected());
  }
  bool binary(binary_t&) override { return refuse("bytes", expected()); }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    return refuse_text(join("is not JSON at byte ", position));
  }

 private:
  enum class State { kStart, kTop, kMetadata, kEntry, kArray, kEnd };

  bool enter(State state) {
    state_ = state;
    return true;
  }

  std::string tensor() const { return "tensor \"" + key_ + "\""; }

  std::string expected() const {
    switch (state_) {
      case State::kTop:
        return "an object for \"" + key_ + "\"";
      case State::kMetadata:
        return "a string for \"" + field_ + "\" of __metadata__";
      case State::kEntry:
        return std::string(field_ == "dtype" ? "a string" : "an array") + " for " + field_ +
               " of " + tensor();
      case State::kArray:
        return "whole numbers in " + field_ + " of " + tensor();
      default:
        return "an object";
    }
  }

  bool refuse(const char* got, const std::string& wanted) {
    return refuse_text(join("has ", got, ", expected ", wanted));
  }
  bool refuse_text(std::string text) {
    error = std::move(text);
    return false;
  }

  State state_ = State::kStart;
  std::string key_, field_;
  std::set<std::string> names_, fields_;
};

// The number of bytes, or nothing when it does not fit.
std::optional<uint64_t> byte_count(uint64_t element, const std::vector<int64_t>& shape) {
  uint64_t bytes = element;
  for (const int64_t extent : shape)
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes)) return {};
  return bytes;
}

uint64_t read_length(std::span<const std::byte> file) {
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = length << 8 | std::to_integer<uint64_t>(file[i]);
  return length;
}

}  // namespace

const TensorView* Safetensors::find(const std::string& name) const {
  const auto found = std::ranges::find(tensors, name, &TensorView::name);
  return found == tensors.end() ? nullptr : &*found;
}

Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  if (file.size() < 8)
    fail(name, ": has ", file.size(), " bytes, expected a safetensors file of at least 8");
  const uint64_t length = read_length(file);
  if (length > kMaxHeader)
    fail(name, ": header length is ", length, ", expected at most ", kMaxHeader);
  if (length > file.size() - 8)
    fail(name, ": header length is ", length, ", but only ", file.size() - 8, " bytes follow");
  const auto* text = reinterpret_cast<const char*>(file.data()) + 8;
  if (length == 0 || text[0] != '{') fail(name, ": header does not begin with '{'");

  HeaderReader header;
  if (!json::sax_parse(text, text + length, &header)) fail(name, ": header ", header.error);

  const std::span<const std::byte> data = file.subspan(8 + length);
  Safetensors content;
  content.metadata = std::move(header.metadata);
  for (auto& [tensor, entry] : header.entries) {
    const std::string what = join(name, ": tensor \"", tensor, "\": ");
    const uint64_t element = element_size(entry.dtype);
    if (element == 0) fail(what, "dtype is \"", entry.dtype, "\", expected one such as F32 or I64");
    if (entry.offsets.size() != 2)
      fail(what, "data_offsets has ", entry.offsets.size(), " numbers, expected 2");
    const auto begin = static_cast<uint64_t>(entry.offsets[0]);
    const auto end = static_cast<uint64_t>(entry.offsets[1]);
    if (begin > end || end > data.size())
      fail(what, "data_offsets are ", begin, " to ", end, ", expected within the ", data.size(),
           " bytes that follow the header");
    const std::optional<uint64_t> bytes = byte_count(element, entry.shape);
    if (bytes != end - begin)
      fail(what, "data_offsets hold ", end - begin, " bytes, expected ",
           bytes ? join(*bytes, " for its shape") : "more than any file for its shape");
    content.tensors.push_back(
        {tensor, std::move(entry.dtype), std::move(entry.shape), data.subspan(begin, end - begin)});
  }

  // An empty array may share its offset with the next one.
  std::ranges::sort(content.tensors, [](const TensorView& a, const TensorView& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  const std::byte* position = data.data();
  for (const TensorView& tensor : content.tensors) {
    if (tensor.bytes.data() != position)
      fail(name, ": tensor \"", tensor.name, "\": begins at byte ",
           tensor.bytes.data() - data.data(), ", expected ", position - data.data(),
           " where the one before ends");
    position += tensor.bytes.size();
  }
  if (position != data.data() + data.size())
    fail(name, ": has ", data.size(), " bytes of tensors, expected ", position - data.data());
  return content;
}

void write_safetensors(const std::string& path, const Safetensors& content) {
  std::vector<const TensorView*> order;
  for (const TensorView& tensor : content.tensors) order.push_back(&tensor);
  std::ranges::sort(order, [](const TensorView* a, const TensorView* b) {
    const uint64_t x = element_size(a->dtype), y = element_size(b->dtype);
    return x != y ? x > y : a->name < b->name;
  });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!content.metadata.empty()) header["__metadata__"] = content.metadata;
  uint64_t offset = 0;
  for (const TensorView* tensor : order) {
    YOSO_DCHECK(byte_count(element_size(tensor->dtype), tensor->shape) == tensor->bytes.size());
    const uint64_t end = offset + tensor->bytes.size();
    header[tensor->name] = {
        {"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');

  FileWriter file(path);
  std::array<std::byte, 8> length;
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(text.size() >> (8 * i));
  file.write(length);
  file.write(text);
  for (const TensorView* tensor : order) file.write(tensor->bytes);
  file.commit();
}

}  // namespace yoso
