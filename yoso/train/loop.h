// The training loop. One for all models and tasks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <string>

#include "yoso/train/recipe.h"
#include "yoso/train/run_recorder.h"

namespace yoso {

// Is told what happens, on the thread of train().
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void on_start(int64_t /*first_step*/, int64_t /*parameters*/) {}
  virtual void on_step(const StepReport&) {}
  virtual void on_evaluation(const EvaluationReport&, bool /*is_best*/) {}
  // Steps are not CUDA graphs from here on although train.cuda_graphs is set; one line says why.
  virtual void on_no_graphs(const std::string& /*why*/) {}
};

struct TrainControl {
  at::Device device = at::kCPU;
  // Go on from out/last.safetensors if it is there: with the same losses, to the bit, as a run that
  // was never stopped, given the same recipe, device, number of threads and machine.
  bool resume = false;
  const std::atomic<bool>* stop = nullptr;  // becomes true: finish the step, save, return
  RunObserver* observer = nullptr;
};

enum class Ending : uint8_t {
  kFinished,
  kStoppedEarly,  // no better evaluation for early_stop_patience of them
  kInterrupted,   // by TrainControl::stop
};

// Runs a recipe in the folder recipe.train.out (made if need be); checkpoint.h and run_recorder.h
// say what it leaves there. Throws Error when the folder holds a run and `resume` is not set, when
// the run there has another task or model, when the loss is not finite, and when a step does not
// fit into the memory of a GPU.
Ending train(const Recipe& recipe, const TrainControl& control = {});

}  // namespace yoso
