// Accuracies on the Long Range Arena that others printed and we have read, with their protocols.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace yoso::lra {

struct Source {
  const char* name;
  const char* protocol;
};

inline constexpr int kPublishedTasks = 5;  // the first of kTasks: nobody printed pathx

// In percent on test; NaN where the source does not print it.
struct PublishedRow {
  std::string_view method;
  const Source* source;
  double accuracies[kPublishedTasks], average;
};
std::span<const PublishedRow> published_rows();

struct Published {
  double accuracy;
  const Source* source;
};
// The sources nearest to the protocol of docs/lra.md come first; empty where there is none.
std::vector<Published> published(std::string_view task, std::string_view method);

}  // namespace yoso::lra
