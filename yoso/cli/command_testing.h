// Commands in tests, as a user types them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <initializer_list>
#include <string>

namespace yoso {

// What a program of these commands prints on the standard output; errors are thrown.
inline std::string run_command(std::initializer_list<void (*)(CLI::App&)> commands,
                               const std::string& arguments) {
  CLI::App app("yoso");
  for (const auto add_command : commands) add_command(app);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::exception_ptr thrown;
  try {
    app.parse(arguments);
  } catch (...) {
    thrown = std::current_exception();
  }
  testing::internal::GetCapturedStderr();
  const std::string printed = testing::internal::GetCapturedStdout();
  if (thrown) std::rethrow_exception(thrown);
  return printed;
}

}  // namespace yoso
