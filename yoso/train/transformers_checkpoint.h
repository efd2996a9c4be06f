// Checkpoints of YOSO models as Python's `transformers` writes and loads them: a folder with
// config.json and model.safetensors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <memory>
#include <string>

#include "yoso/models/transformers_model.h"

namespace yoso {

// Whether `path` is a folder with a config.json.
bool is_transformers_checkpoint(const std::string& path);

TransformersConfig read_transformers_config(const std::string& folder);

// The model of `config`, which is that of the folder, perhaps with another attention mode; weights
// of 16 bits become float. Throws Error naming a weight that is missing, surplus, or has another
// shape.
std::shared_ptr<TransformersModel> read_transformers_model(
    const std::string& folder, const TransformersConfig& config,
    PaddingMode padding = PaddingMode::kStrict);

// Writes config.json and model.safetensors; makes the folder if there is none. `type` of the
// weights is kFloat, kHalf or kBFloat16.
void write_transformers_model(const std::string& folder, const TransformersModel& model,
                              at::ScalarType type = at::kFloat);

}  // namespace yoso
