// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/loop.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <sys/resource.h>
#include <torch/optim/adamw.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/train/batches.h"
#include "yoso/train/checkpoint.h"
#include "yoso/train/evaluate.h"
#include "yoso/train/fused_adamw.h"
#include "yoso/train/schedule.h"
#include "yoso/train/step_graphs.h"

namespace yoso {
namespace {

using Clock = std::chrono::steady_clock;

// Of the GPU, or of the process.
double peak_mib(at::Device device) {
  if (device.is_cuda()) {
    const auto stats = at::accelerator::getDeviceStats(device.index());
    return static_cast<double>(stats.allocated_bytes[0].peak) / (1 << 20);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// Matrices are decayed, vectors (biases, scales of norms) are not.
std::unique_ptr<torch::optim::AdamW> make_optimizer(const TrainConfig& train, const Model& model) {
  std::vector<at::Tensor> matrices, vectors;
  for (const at::Tensor& parameter : model.parameters())
    (parameter.dim() >= 2 ? matrices : vectors).push_back(parameter);
  torch::optim::AdamWOptions options(train.learning_rate);
  options.betas({train.betas[0], train.betas[1]}).eps(train.epsilon);
  const auto group = [&](std::vector<at::Tensor> parameters, double decay) {
    auto own = std::make_unique<torch::optim::AdamWOptions>(options);
    own->weight_decay(decay);
    return torch::optim::OptimizerParamGroup(std::move(parameters), std::move(own));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.push_back(group(std::move(matrices), train.weight_decay));
  groups.push_back(group(std::move(vectors), 0));
  if (model.device().is_cuda()) return std::make_unique<FusedAdamW>(std::move(groups), options);
  return std::make_unique<torch::optim::AdamW>(std::move(groups), options);
}

// Scales all gradients so that their norm together is at most `most`. torch's clip_grad_norm_ does
// so with launches for every tensor, and waits for the GPU to return the norm.
void clip_gradients(const Model& model, double most) {
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : model.parameters())
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients, 2)).norm();
  at::_foreach_mul_(gradients, (most / (norm + 1e-6)).clamp_max(1));
}

// The tables that a run cannot change on its way.
std::string fixed_part(Recipe recipe) {
  recipe.train = {};
  recipe.task.data.clear();  // may have moved
  return to_toml(recipe);
}

class Run {
 public:
  Run(const Recipe& recipe, const TrainControl& control)
      : recipe_(recipe), train_(recipe_.train), control_(control) {
    if (train_.out.empty()) fail("train.out is \"\", expected a folder");
    to_toml(recipe_);  // throws for what no checkpoint could hold
    make_folder(train_.out);
    lock_.emplace(train_.out);
    if (train_.threads > 0) at::set_num_threads(static_cast<int>(train_.threads));

    task_ = make_task(recipe_.task.name, recipe_.task.data, recipe_.task.options);
    recipe_.task.options = task_->resolved_options();
    recipe_.model = resolve(recipe_.model, *task_);
    at::manual_seed(static_cast<uint64_t>(train_.seed));
    model_ = make_model(recipe_.model);
    model_->to(control_.device);
    optimizer_ = make_optimizer(train_, *model_);
    start();
    use_graphs();
  }

  Ending run() {
    if (control_.observer != nullptr) control_.observer->on_start(state_.step, parameters());
    if (state_.finished) return Ending::kFinished;
    BatchReader reader(
        task_, Split::kTrain, state_.next_batch,
        state_.next_batch + (train_.steps - state_.step) * train_.accumulate,
        [order = TrainingOrder(task_->size(Split::kTrain), train_,
                               [task = task_](int64_t example) {
                                 return task->length(Split::kTrain, example);
                               })](int64_t batch) mutable { return order.examples(batch); },
        control_.device);
    for (;;) {
      if (is_due(train_.evaluate_every) && state_.evaluated_step < state_.step && !evaluate_dev()) {
        save();
        return Ending::kInterrupted;
      }
      if (state_.step == train_.steps) return finish(Ending::kFinished);
      if (train_.early_stop_patience > 0 &&
          state_.evaluations_since_best >= train_.early_stop_patience)
        return finish(Ending::kStoppedEarly);
      if (stopped()) {
        save();
        return Ending::kInterrupted;
      }
      if (state_.step > 0 && state_.step % train_.checkpoint_every == 0) save();
      step(reader);
    }
  }

 private:
  // From the checkpoint or from nothing; nothing is written before all is known to fit.
  void start() {
    const std::string last = last_path(train_.out);
    const bool exists = std::filesystem::exists(last);
    if (exists && !control_.resume)
      fail(train_.out, ": holds a run already; --resume goes on with it, --out DIR starts another");
    if (exists) {
      const Checkpoint checkpoint(last);
      if (fixed_part(checkpoint.recipe()) != fixed_part(recipe_))
        fail(last, ": is of a run with another [task] or [model], expected those of ", train_.out,
             "/recipe.toml; --out DIR starts a new run");
      checkpoint.load_run(*model_, *optimizer_);
      state_ = checkpoint.state();
      if (state_.step > train_.steps)
        fail(last, ": is at step ", state_.step, ", expected at most train.steps = ", train_.steps);
      state_.finished = state_.finished && state_.step == train_.steps;
    }
    // Every split is read now: a bad file is found before the training and not after it.
    if (task_->size(Split::kTrain) == 0) fail("split train is empty, expected examples");
    task_->size(Split::kDev);
    if (train_.evaluate_test) task_->size(Split::kTest);
    FileWriter recipe(train_.out + "/recipe.toml");
    recipe.write(to_toml(recipe_));
    recipe.commit();
    recorder_.emplace(train_.out, [this](int64_t step, const std::string& split) {
      if (split.empty()) return step <= state_.step;
      return split == "test" ? state_.finished : step <= state_.evaluated_step;
    });
    started_ = Clock::now() - std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(state_.seconds));
  }

  bool is_due(int64_t every) const {
    return state_.step > 0 && (state_.step % every == 0 || state_.step == train_.steps);
  }
  bool stopped() const { return control_.stop != nullptr && *control_.stop; }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }
  int64_t parameters() const {
    int64_t count = 0;
    for (const at::Tensor& parameter : model_->parameters()) count += parameter.numel();
    return count;
  }

  void use_graphs() {
    fused_ = dynamic_cast<FusedAdamW*>(optimizer_.get());
    if (fused_ == nullptr || !train_.cuda_graphs || train_.accumulate > 1 ||
        recipe_.model.activation_checkpointing)
      return;
    try {
      graphs_.emplace(control_.device, [this](const StepInput& input) {
        const at::Tensor loss = add_gradients(input);
        clip();
        fused_->update();
        optimizer_->zero_grad();
        return loss;
      });
    } catch (const Error& error) {
      give_up_graphs(error.what());
    }
  }

  void give_up_graphs(const std::string& why) {
    graphs_.reset();
    optimizer_->zero_grad();  // those of half a step, which were never computed
    if (control_.observer != nullptr)
      control_.observer->on_no_graphs(why.substr(0, why.find('\n')));
  }

  // The batch's share of the loss, which is the mean over all labels of the step.
  at::Tensor add_gradients(const StepInput& input) {
    at::Tensor logits;
    {
      const AutocastScope autocast(train_.mixed_precision, control_.device.type());
      logits = model_->forward(input.batch.tokens, input.batch.mask, input.batch.real_below);
    }
    const at::Tensor share = cross_entropy_sum(logits, input.batch.labels) / input.labels;
    share.backward();
    return share.detach();
  }

  void clip() {
    if (train_.clip_norm > 0) clip_gradients(*model_, train_.clip_norm);
  }

  // The step that batches of this shape have as a graph, or null.
  StepGraphs::Recorded* recorded(const Batch& batch) {
    if (!graphs_) return nullptr;
    try {
      return graphs_->find(batch);
    } catch (const c10::Error& error) {
      give_up_graphs(error.what_without_backtrace());
    } catch (const std::exception& error) {
      give_up_graphs(error.what());
    }
    return nullptr;
  }

  // Changes the weights by the gradients of all batches; gives the loss, of one number.
  at::Tensor update(const std::vector<Batch>& batches, double labels) {
    if (StepGraphs::Recorded* graph = recorded(batches.front())) {
      fused_->count();
      return graph->replay(batches.front(), labels);
    }
    at::Tensor sum = at::zeros({}, at::TensorOptions(control_.device).dtype(at::kDouble));
    for (const Batch& batch : batches)
      sum += add_gradients(to_device(batch, labels, control_.device));
    clip();
    optimizer_->step();
    optimizer_->zero_grad();
    return sum;
  }

  void step(BatchReader& reader) {
    const Clock::time_point begin = Clock::now();
    std::vector<Batch> batches;
    int64_t labels = 0, tokens = 0;
    std::chrono::duration<double> waited{};
    for (int64_t i = 0; i < train_.accumulate; ++i) {
      const Clock::time_point asked = Clock::now();
      batches.push_back(reader.next());
      waited += Clock::now() - asked;
      labels += (batches.back().labels >= 0).sum().item<int64_t>();
      tokens += batches.back().mask.sum().item<int64_t>();
    }
    const double rate = learning_rate(train_, state_.step);
    for (auto& group : optimizer_->param_groups()) group.options().set_lr(rate);
    // Here a GPU is waited for, with the whole step queued. Spoiled weights are never saved.
    const auto loss =
        update(batches, static_cast<double>(std::max<int64_t>(labels, 1))).item<double>();
    if (!std::isfinite(loss))
      fail("loss is ", loss, " at step ", state_.step + 1,
           ", expected a finite number; a lower train.learning_rate or train.clip_norm may help");

    ++state_.step;
    state_.next_batch += train_.accumulate;
    state_.seconds = seconds();
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    const StepReport report{state_.step,    loss,
                            rate,           static_cast<double>(tokens) / took,
                            state_.seconds, peak_mib(control_.device),
                            waited.count()};
    recorder_->add(report);
    if (control_.observer != nullptr) control_.observer->on_step(report);
  }

  // False when interrupted; the evaluation is then the first thing that a resumed run does.
  bool evaluate_dev() {
    const auto score = evaluate(*model_, task_, Split::kDev, train_, control_.stop);
    if (!score) return false;
    const bool is_best =
        state_.best_step == 0 || score->accuracy > state_.best_accuracy ||
        (score->accuracy == state_.best_accuracy && score->loss < state_.best_loss);
    state_.seconds = seconds();
    state_.evaluated_step = state_.step;
    ++state_.evaluations_since_best;
    if (is_best) {
      state_.best_step = state_.step;
      state_.best_accuracy = score->accuracy;
      state_.best_loss = score->loss;
      state_.evaluations_since_best = 0;
      save_weights(best_path(train_.out), recipe_, state_, *model_);
    }
    report(*score, Split::kDev, is_best);
    return true;
  }

  void report(const Score& score, Split split, bool is_best) {
    const EvaluationReport report{state_.step,    name_of(split), score.loss,
                                  score.accuracy, score.examples, state_.seconds};
    recorder_->add(report);
    if (control_.observer != nullptr) control_.observer->on_evaluation(report, is_best);
  }

  Ending finish(Ending ending) {
    save();
    if (train_.evaluate_test) {
      const std::shared_ptr<Model> best = make_model(recipe_.model);
      Checkpoint(best_path(train_.out)).load_weights(*best);
      best->to(control_.device);
      const auto score = evaluate(*best, task_, Split::kTest, train_, control_.stop);
      if (!score) return Ending::kInterrupted;
      state_.seconds = seconds();
      report(*score, Split::kTest, false);
    }
    state_.finished = true;
    save();
    return ending;
  }

  void save() {
    state_.seconds = seconds();
    save_run(last_path(train_.out), recipe_, state_, *model_, *optimizer_);
  }

  Recipe recipe_;  // resolved: what task and model made of it
  const TrainConfig& train_;
  TrainControl control_;
  std::optional<FolderLock> lock_;
  std::shared_ptr<const Task> task_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<torch::optim::AdamW> optimizer_;
  FusedAdamW* fused_ = nullptr;       // optimizer_, on a GPU
  std::optional<StepGraphs> graphs_;  // of steps by `model_` and `fused_`
  std::optional<RunRecorder> recorder_;
  RunState state_;
  Clock::time_point started_;
};

}  // namespace

Ending train(const Recipe& recipe, const TrainControl& control) {
  try {
    return Run(recipe, control).run();
  } catch (const c10::OutOfMemoryError&) {
    fail("GPU memory: a step of this run does not fit, expected it to; lower train.batch_size and ",
         "raise train.accumulate, or set model.activation_checkpointing = true");
  }
}

}  // namespace yoso
