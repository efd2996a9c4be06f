// The JSON that `yoso bench` writes, read back, and its charts.
//
//   {"program": "yoso bench attention", "version", "date", "command", "torch",
//    "machine": {"cpu", "cores", "memory_gib", "simd", "device"}, "results": [{...}, ...]}
//
// An object of results has kind (softmax, yoso), mode (sampled, expected, auto; of softmax null, or
// its backend cudnn or flash), device, dtype, input, tokens, heads, width, batch, threads, pass
// (forward, forward+backward), median_ms, times_faster_than_sdpa (of the same dtype),
// times_faster_than_fastest_sdpa, peak_mib, peak_total_mib, extra_bytes_per_row (on a GPU: beyond
// inputs and results), hashes, bits, relative_error, cosine, ... What was not measured is null.
// A row of `yoso bench methods` has as kind a method of lra_methods.h, and part (layer, encoder),
// times_faster_than_softmax, skipped, left_out (a text: why a length was not measured).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/chart.h"

namespace yoso {

// Throws Error with the file, the entry and the key that is missing or of a wrong type.
nlohmann::json read_bench(const std::filesystem::path& path);

// A number of a row; NaN where it is null or absent.
double number_of(const nlohmann::json& row, const char* key);

// "sampled", "softmax", or a method.
std::string kind_of(const nlohmann::json& row);

// The vertical axis of a chart of times.
inline constexpr const char* kMilliseconds = "milliseconds";

// Time by length of each part and pass, memory and error, one line a kind; of several numbers of
// threads the highest. Charts without a single point are left out.
std::vector<Chart> bench_charts(const nlohmann::json& results);

}  // namespace yoso
