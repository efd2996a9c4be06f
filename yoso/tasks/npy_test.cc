// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/npy.h"

#include <gmock/gmock.h>

#include <array>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;

std::span<const uint8_t> bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string file(std::string header, const std::string& data) {
  header += '\n';
  std::string text = std::string("\x93NUMPY\x01\0", 8);
  text += static_cast<char>(header.size());
  text += '\0';
  return text + header + data;
}

TEST(Npy, WritesTheHeaderThatNumPyWrites) {
  // np.save of np.zeros((2, 3), np.uint8), but for its data.
  EXPECT_EQ(npy_header("|u1", std::array<int64_t, 2>{2, 3}),
            std::string("\x93NUMPY\x01\0v\0", 10) +
                "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }" +
                std::string(58, ' ') + "\n");
  const std::string one = npy_header("|u1", std::array<int64_t, 1>{5});
  EXPECT_THAT(one, testing::HasSubstr("'shape': (5,), }"));
  EXPECT_EQ(one.size() % 64, 0);
}

TEST(Npy, ReadsWhatItWrites) {
  for (const auto& shape : {std::vector<int64_t>{3}, {2, 2}, {1, 2, 2}, {0, 7}}) {
    int64_t items = 1;
    for (const int64_t size : shape) items *= size;
    const std::string text = npy_header("|u1", shape) + std::string(items, 'x');
    const Npy npy = parse_npy(bytes(text), "a.npy", "|u1", 1);
    EXPECT_EQ(npy.shape, shape);
    EXPECT_EQ(std::ssize(npy.data), items);
  }
}

TEST(Npy, ReadsOtherSpellings) {
  const std::string text = file("{'shape':(2,2),'fortran_order':False,'descr':'|u1'}", "abcd");
  EXPECT_THAT(parse_npy(bytes(text), "a.npy", "|u1", 1).shape, ElementsAre(2, 2));
}

TEST(Npy, SaysWhatIsWrong) {
  const auto message = [](const std::string& text) {
    return error_of([&] { parse_npy(bytes(text), "a.npy", "|u1", 1); });
  };
  EXPECT_EQ(message(""), "a.npy: does not begin as a NumPy file");
  EXPECT_EQ(message(std::string("\x93NUMPY\x01\0v\0{", 11)),
            "a.npy: is cut short in its header, which is of 118 bytes");
  const std::string good = npy_header("|u1", std::array<int64_t, 2>{2, 3}) + "abcdef";
  EXPECT_EQ(message(good), "no error");
  EXPECT_EQ(message(good.substr(0, good.size() - 1)),
            "a.npy: holds 5 bytes of data, expected 6 by its header; it is cut short or damaged");
  EXPECT_EQ(message(good + "g"),
            "a.npy: holds 7 bytes of data, expected 6 by its header; it is cut short or damaged");
  EXPECT_EQ(message(file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "abcd")),
            "a.npy: items are of NumPy type '<f4', expected '|u1'");
  EXPECT_EQ(message(file("{'descr': '|u1', 'fortran_order': True, 'shape': (1,)}", "a")),
            "a.npy: is in Fortran's order, expected C's");
  EXPECT_EQ(message(file("{'descr': '|u1', 'fortran_order': False}", "a")),
            "a.npy: NumPy header has no shape, expected one");
  for (const std::string shape : {"3", "(x,)", "(-3,)", "(3"}) {
    EXPECT_THAT(message(file("{'descr': '|u1', 'fortran_order': False, 'shape': " + shape, "abc")),
                testing::StartsWith("a.npy: NumPy shape is '" + shape))
        << shape;
  }
  EXPECT_EQ(message(file("{'descr': '|u1', 'fortran_order': False, 'shape': "
                         "(9000000000, 9000000000)}",
                         "abc")),
            "a.npy: shape is of more bytes than there can be");
}

}  // namespace
}  // namespace yoso
