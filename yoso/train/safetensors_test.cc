// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/safetensors.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "yoso/core/file.h"
#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string le64(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return le64(header.size()) + header + std::string(data_bytes, '\0');
}

std::string refusal(const std::string& file) {
  return error_of([&] { parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors"); });
}

// save() of the Python package safetensors 0.8: a int64, b.weight float32, empty, s bool.
std::string python_file() {
  std::string header = R"({"__metadata__":{"format":"pt","step":"12"},)"
                       R"("a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                       R"("b.weight":{"dtype":"F32","shape":[1,3],"data_offsets":[8,20]},)"
                       R"("empty":{"dtype":"F32","shape":[0,4],"data_offsets":[20,20]},)"
                       R"("s":{"dtype":"BOOL","shape":[],"data_offsets":[20,21]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const float weights[] = {1.5f, -2.0f, 0.0f};
  return le64(header.size()) + header + le64(7) +
         std::string(reinterpret_cast<const char*>(weights), 12) + '\1';
}

TEST(Safetensors, ReadsWhatPythonWrites) {
  const std::string file = python_file();
  const Safetensors content = parse_safetensors(std::as_bytes(std::span(file)), "x");
  EXPECT_THAT(content.metadata,
              ElementsAre(testing::Pair("format", "pt"), testing::Pair("step", "12")));
  ASSERT_EQ(content.tensors.size(), 4u);
  const TensorView* weight = content.find("b.weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->dtype, "F32");
  EXPECT_THAT(weight->shape, ElementsAre(1, 3));
  float values[3];
  ASSERT_EQ(weight->bytes.size(), sizeof values);
  std::memcpy(values, weight->bytes.data(), sizeof values);
  EXPECT_THAT(values, ElementsAre(1.5f, -2.0f, 0.0f));
  EXPECT_EQ(content.find("empty")->bytes.size(), 0u);
  EXPECT_THAT(content.find("s")->shape, ElementsAre());
  EXPECT_EQ(content.find("none"), nullptr);
}

TEST(Safetensors, WritesWhatPythonWrites) {
  const std::string source = python_file();
  Safetensors content = parse_safetensors(std::as_bytes(std::span(source)), "x");
  std::ranges::reverse(content.tensors);
  const TestFolder folder;
  const std::string path = folder / "a";
  write_safetensors(path, content);
  EXPECT_EQ(read_text(path), source);
  const SafetensorsFile again(path);
  EXPECT_EQ(again.content().metadata, content.metadata);
  EXPECT_EQ(again.content().tensors.size(), 4u);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = python_file();
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THAT(refusal(whole.substr(0, size)), testing::StartsWith("x.safetensors: "))
        << "cut at " << size;
  EXPECT_THAT(refusal(whole + '\0'), HasSubstr("has 22 bytes of tensors, expected 21"));
}

TEST(Safetensors, HostileHeadersAreRefusedByName) {
  const auto tensor = [](const std::string& fields) { return R"({"a":{)" + fields + "}}"; };
  EXPECT_EQ(refusal(le64(uint64_t{1} << 63) + "{}"),
            "x.safetensors: header length is 9223372036854775808, expected at most 100000000");
  EXPECT_EQ(refusal(le64(100) + "{}"),
            "x.safetensors: header length is 100, but only 2 bytes follow");
  EXPECT_THAT(refusal(file_of("", 0)), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(refusal(file_of("[]", 0)), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(refusal(file_of("{\"a\":", 0)), HasSubstr("header is not JSON at byte"));
  EXPECT_THAT(refusal(file_of("{} x", 0)), HasSubstr("header is not JSON at byte"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[1])"), 4)),
              HasSubstr("tensor \"a\" lacks a field"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])"), 4)),
              HasSubstr("tensor \"a\": data_offsets are 0 to 8, expected within the 4 bytes"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4)),
              HasSubstr("data_offsets are 4 to 0"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8)),
              HasSubstr("data_offsets hold 8 bytes, expected 12 for its shape"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[4294967296,4294967296],)"
                                     R"("data_offsets":[0,0])"),
                              0)),
              HasSubstr("expected more than any file for its shape"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"Q3","shape":[1],"data_offsets":[0,4])"), 4)),
              HasSubstr("dtype is \"Q3\""));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4)),
              HasSubstr("has a negative number, expected whole numbers in shape of tensor \"a\""));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])"), 4)),
              HasSubstr("has a fraction"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[18446744073709551615],)"
                                     R"("data_offsets":[0,4])"),
                              4)),
              HasSubstr("has a shape out of range"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), 4)),
              HasSubstr("data_offsets has 1 numbers, expected 2"));
  EXPECT_THAT(refusal(file_of(tensor(R"("dtype":"F32","dtype":"F32")"), 0)),
              HasSubstr("has the field dtype twice"));
  EXPECT_THAT(refusal(file_of(tensor(R"("code":"x")"), 0)), HasSubstr("has a field \"code\""));
  EXPECT_THAT(refusal(file_of(R"({"a":3})", 0)), HasSubstr("expected an object for \"a\""));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{"a":3}})", 0)),
              HasSubstr("expected a string for \"a\" of __metadata__"));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})", 0)),
              HasSubstr("the name \"__metadata__\" comes twice"));
  EXPECT_THAT(refusal(file_of("{\"a\":" + std::string(1'000'000, '['), 0)),
              HasSubstr("has an array, expected an object for \"a\""));
}

TEST(Safetensors, OverlapsHolesAndDuplicatesAreRefused) {
  const auto two = [](const std::string& a, const std::string& b, const std::string& offsets_a,
                      const std::string& offsets_b) {
    const std::string fields = R"({"dtype":"U8","shape":[4],"data_offsets":)";
    return "{\"" + a + "\":" + fields + offsets_a + "},\"" + b + "\":" + fields + offsets_b + "}}";
  };
  EXPECT_EQ(refusal(file_of(two("a", "b", "[0,4]", "[4,8]"), 8)), "no error");
  EXPECT_THAT(refusal(file_of(two("a", "b", "[0,4]", "[2,6]"), 6)),
              HasSubstr("tensor \"b\": begins at byte 2, expected 4 where the one before ends"));
  EXPECT_THAT(refusal(file_of(two("a", "b", "[0,4]", "[0,4]"), 4)),
              HasSubstr("begins at byte 0, expected 4"));
  EXPECT_THAT(refusal(file_of(two("a", "b", "[0,4]", "[6,10]"), 10)),
              HasSubstr("begins at byte 6, expected 4"));
  EXPECT_THAT(refusal(file_of(two("a", "b", "[1,5]", "[5,9]"), 9)),
              HasSubstr("begins at byte 1, expected 0"));
  EXPECT_THAT(refusal(file_of(two("a", "a", "[0,4]", "[4,8]"), 8)),
              HasSubstr("the name \"a\" comes twice"));
}

// A process of its own, so that the limit ends with it.
TEST(Safetensors, AFullDiskLeavesThePreviousFileAndNoOther) {
  const TestFolder folder;
  const std::string path = folder / "a.safetensors";
  std::vector<std::byte> bytes(1 << 20);
  const auto write = [&](size_t size) {
    Safetensors content;
    content.tensors.push_back(
        {"a", "U8", {static_cast<int64_t>(size)}, std::span(bytes).first(size)});
    write_safetensors(path, content);
  };
  write(100);
  const std::string before = read_text(path);
  const auto write_under_a_limit = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write(bytes.size());
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      std::exit(3);
    }
    std::exit(0);
  };
  EXPECT_EXIT(write_under_a_limit(), testing::ExitedWithCode(3),
              "a.safetensors: cannot write: File too large");
  EXPECT_EQ(read_text(path), before);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, ElementsAre("a.safetensors"));
}

TEST(Safetensors, AFolderIsNotAFile) {
  EXPECT_THAT(error_of([] { SafetensorsFile(testing::TempDir()); }),
              HasSubstr("is no file, expected one to read"));
}

}  // namespace
}  // namespace yoso
