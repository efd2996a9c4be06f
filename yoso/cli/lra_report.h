// The report of the Long Range Arena: results beside the numbers that others published.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/lra_results.h"

namespace yoso::lra {

std::string markdown(const std::vector<Cell>& cells);
nlohmann::json json(const std::vector<Cell>& cells);
// One page that needs no other file: tables, accuracy against speed, learning curves.
std::string page(const std::vector<Cell>& cells, const std::string& machine);

}  // namespace yoso::lra
