// A recipe: one TOML file that describes one whole run. Every key has a default, every unknown key
// is an error. The tables are [task], [model], [model.attention], one for the options of each kind
// of attention such as [model.attention.yoso], and [train]; keys bear the names of the fields
// below, of yoso/models/config.h and of yoso/nn/config.h.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "yoso/models/config.h"

namespace yoso {

struct TaskConfig {
  std::string name = "listops";                // a name of task_names()
  std::string data;                            // folder or file; may be empty for generated tasks
  std::map<std::string, std::string> options;  // every other key of [task], as text
};

enum class Schedule : uint8_t {
  kOneCycle,  // from a 25th up to learning_rate in warmup_steps, then down to a 250,000th
  kLinear,    // from 0 up to learning_rate in warmup_steps, then down to 0
  kConstant,  // up in warmup_steps, then level
};

enum class Precision : uint8_t { kNone, kBFloat16 };  // of mixed precision: autocast type

struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch_size = 32;  // examples of one forward
  int64_t accumulate = 1;   // forwards of one step
  // Examples of so many batches are sorted by length before they are cut into batches, which come
  // in a random order: less padding, batches less alike. 1: batches are random.
  int64_t length_window = 1;
  double learning_rate = 1e-3;
  double weight_decay = 0;  // of matrices; vectors (biases, norms) are not decayed
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  Schedule schedule = Schedule::kOneCycle;
  int64_t warmup_steps = 0;
  double clip_norm = 0;             // largest norm of all gradients together; 0: no clipping
  int64_t evaluate_every = 100;     // steps between evaluations on the dev split
  int64_t checkpoint_every = 100;   // steps between checkpoints
  int64_t early_stop_patience = 0;  // stop after so many evaluations without a better one; 0: never
  bool evaluate_test = false;       // at the end, with the weights that were best on dev
  int64_t seed = 0;
  int64_t threads = 0;  // 0: as many as the machine has
  Precision mixed_precision = Precision::kNone;
  // On a GPU, queue a whole step at once (step_graphs.h) where accumulate is 1 and activations are
  // not checkpointed; the numbers are the same.
  bool cuda_graphs = true;
  std::string out;  // folder of the run; "": runs/<folder of the recipe>/<name of the recipe>
};

struct Recipe {
  TaskConfig task;
  ModelConfig model;
  TrainConfig train;
};

// `name` stands in messages. Throws Error with name, line and key.
Recipe parse_recipe(std::string_view text, const std::string& name);

// The file at `path` changed by `overrides` such as "train.steps=100" (set_key), with `out` filled.
Recipe read_recipe(const std::string& path, std::span<const std::string> overrides = {});

// Changes one key: "train.steps=100", "model.attention.kind=softmax". A value that is not TOML is
// taken as a string.
void set_key(Recipe& recipe, const std::string& assignment);

// Every key with its value; parse_recipe reads the same recipe back. Throws Error for a string that
// is not UTF-8: no recipe could hold it.
std::string to_toml(const Recipe& recipe);

}  // namespace yoso
