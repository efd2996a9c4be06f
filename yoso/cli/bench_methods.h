// Time and memory by length of every way to attend: one attention layer alone, and an encoder.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/bench_grid.h"

namespace yoso {

struct MethodsGrid : BenchLengths {
  std::vector<std::string> methods;  // of lra_methods.h; empty: all
  // layer: from queries, keys and values to heads, no mask. encoder: from tokens to its output,
  // with a mask of real tokens.
  std::vector<std::string> parts = {"layer", "encoder"};
  // KEY=VALUE of a recipe, for [model]. Without any the encoder is that of the paper's efficiency
  // study: 6 layers that share their weights, 4 heads * width wide inside.
  std::vector<std::string> settings;
  double max_mib = 0;  // of a case, all in all; 0: what the system can give
};

// As run_grid(BenchGrid): softmax first, so that others have their ratio to it. A length at which a
// method would be slower than grid.skip_slower_than or does not fit into the memory is a row all
// the same: it is skipped, and left_out says why. Before a length far beyond the last one, lengths
// between are run once to tell.
nlohmann::json run_grid(const MethodsGrid& grid, std::ostream& out, std::ostream& log);

}  // namespace yoso
