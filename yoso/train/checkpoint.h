// Checkpoints: one safetensors file that holds all a run needs to go on, and its recipe.
//
//   DIR/last.safetensors  weights, moments of the optimizer, states of the generators, position
//   DIR/best.safetensors  the weights that were best on the dev split
//   DIR/recipe.toml       the resolved recipe, for people; the same text is in both files
//
// Weights stand under the names of the model's parameters; the rest of `last` under "optimizer."
// and "generator.". A file gets its name only when it is whole, so a kill leaves the previous one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/adamw.h>

#include <string>

#include "yoso/train/recipe.h"
#include "yoso/train/safetensors.h"

namespace yoso {

// Where a run stands, beside its tensors.
struct RunState {
  int64_t step = 0;            // steps done
  int64_t next_batch = 0;      // position in the data (TrainingOrder)
  double seconds = 0;          // spent so far
  int64_t evaluated_step = 0;  // the last evaluation was after this step
  int64_t best_step = 0;       // 0: none yet
  double best_accuracy = 0, best_loss = 0;
  int64_t evaluations_since_best = 0;
  bool finished = false;  // nothing is left to do, the test split included
};

std::string last_path(const std::string& folder);
std::string best_path(const std::string& folder);

void save_weights(const std::string& path, const Recipe& recipe, const RunState& state,
                  const torch::nn::Module& model);
void save_run(const std::string& path, const Recipe& recipe, const RunState& state,
              const torch::nn::Module& model, torch::optim::AdamW& optimizer);

class Checkpoint {
 public:
  // `path` is a file, or a folder whose best weights are meant (its last ones if there is no best).
  explicit Checkpoint(const std::string& path);

  const std::string& path() const { return path_; }
  const Recipe& recipe() const { return recipe_; }
  const RunState& state() const { return state_; }

  // Fills the parameters and buffers of `model`; throws Error naming one that is absent or has
  // another shape or type.
  void load_weights(torch::nn::Module& model) const;
  // The rest of save_run: moments of the optimizer over `model`, and torch's generators. A run that
  // goes on with another kind of device draws other dropout than it would have.
  void load_run(torch::nn::Module& model, torch::optim::AdamW& optimizer) const;

 private:
  at::Tensor tensor(const std::string& name) const;  // a copy
  void load_generator(const std::string& name, at::Device device) const;
  const std::string& metadata(const std::string& key) const;

  std::string path_;
  SafetensorsFile file_;
  Recipe recipe_;
  RunState state_;
};

}  // namespace yoso
