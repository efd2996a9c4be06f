// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/checkpoint.h"

#include <charconv>
#include <filesystem>
#include <utility>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/generator.h"

namespace yoso {
namespace {

using torch::optim::AdamWParamState;

constexpr const char* kFormat = "yoso-checkpoint-1";

constexpr std::pair<at::ScalarType, const char*> kDTypes[] = {
    {at::kFloat, "F32"}, {at::kDouble, "F64"}, {at::kBFloat16, "BF16"}, {at::kHalf, "F16"},
    {at::kLong, "I64"},  {at::kInt, "I32"},    {at::kByte, "U8"},       {at::kBool, "BOOL"},
};

// Every number of a RunState: writing and reading walk this list.
template <class Visitor, class State>
void visit(Visitor&& v, State& s) {
  v("step", s.step);
  v("next_batch", s.next_batch);
  v("seconds", s.seconds);
  v("evaluated_step", s.evaluated_step);
  v("best_step", s.best_step);
  v("best_accuracy", s.best_accuracy);
  v("best_loss", s.best_loss);
  v("evaluations_since_best", s.evaluations_since_best);
  v("finished", s.finished);
}

template <class Number>
std::string to_text(Number value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}
std::string to_text(bool value) { return value ? "1" : "0"; }

template <class Number>
bool from_text(const std::string& text, Number& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end && !(value < 0);
}
// Counts: a file from elsewhere shall not send the run to before its start or beyond all batches
// (the limits of train.steps and train.accumulate in recipe.cc).
bool from_text(const std::string& text, int64_t& value) {
  constexpr int64_t kMost = int64_t{1} << 42;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end && value >= 0 && value <= kMost;
}
bool from_text(const std::string& text, bool& value) {
  value = text == "1";
  return value || text == "0";
}

// Parameters and buffers by name.
std::vector<std::pair<std::string, at::Tensor>> weights_of(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> weights;
  for (const auto& item : model.named_parameters()) weights.emplace_back(item.key(), item.value());
  for (const auto& item : model.named_buffers()) weights.emplace_back(item.key(), item.value());
  return weights;
}

at::Device device_of(const torch::nn::Module& model) { return model.parameters().front().device(); }

class Collector {
 public:
  Collector(const Recipe& recipe, const RunState& state) {
    content_.metadata["format"] = "pt";  // what loaders of other libraries ask for
    content_.metadata["yoso_format"] = kFormat;
    content_.metadata["recipe"] = to_toml(recipe);
    visit([&](const char* key, auto value) { content_.metadata[key] = to_text(value); }, state);
  }

  void add(const std::string& name, const at::Tensor& tensor) {
    const at::Tensor whole = tensor.detach().cpu().contiguous();
    for (const auto& [type, dtype] : kDTypes) {
      if (type != whole.scalar_type()) continue;
      content_.tensors.push_back(
          {name,
           dtype,
           whole.sizes().vec(),
           {static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()}});
      kept_.push_back(whole);
      return;
    }
    fail("tensor \"", name, "\" is ", whole.scalar_type(), ", which checkpoints cannot hold");
  }

  void add_weights(const torch::nn::Module& model) {
    for (const auto& [name, tensor] : weights_of(model)) add(name, tensor);
  }

  void write(const std::string& path) const { write_safetensors(path, content_); }

 private:
  Safetensors content_;
  std::vector<at::Tensor> kept_;  // own the bytes of content_
};

std::string find_file(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return path;
  for (const std::string& file : {best_path(path), last_path(path)})
    if (std::filesystem::exists(file)) return file;
  fail(path, ": holds no checkpoint, expected best.safetensors or last.safetensors");
}

}  // namespace

std::string last_path(const std::string& folder) { return folder + "/last.safetensors"; }
std::string best_path(const std::string& folder) { return folder + "/best.safetensors"; }

void save_weights(const std::string& path, const Recipe& recipe, const RunState& state,
                  const torch::nn::Module& model) {
  Collector collector(recipe, state);
  collector.add_weights(model);
  collector.write(path);
}

void save_run(const std::string& path, const Recipe& recipe, const RunState& state,
              const torch::nn::Module& model, torch::optim::AdamW& optimizer) {
  Collector collector(recipe, state);
  collector.add_weights(model);
  for (const auto& item : model.named_parameters()) {
    const auto found = optimizer.state().find(item.value().unsafeGetTensorImpl());
    if (found == optimizer.state().end()) continue;  // has had no gradient yet
    const auto& moments = static_cast<const AdamWParamState&>(*found->second);
    collector.add("optimizer.step." + item.key(), at::scalar_tensor(moments.step(), at::kLong));
    collector.add("optimizer.exp_avg." + item.key(), moments.exp_avg());
    collector.add("optimizer.exp_avg_sq." + item.key(), moments.exp_avg_sq());
  }
  collector.add("generator.cpu", nn::generator_state());
  const at::Device device = device_of(model);
  if (device.is_cuda()) collector.add("generator.cuda", nn::generator_state(device));
  collector.write(path);
}

Checkpoint::Checkpoint(const std::string& path) : path_(find_file(path)), file_(path_) {
  if (metadata("yoso_format") != kFormat)
    fail(path_, ": yoso_format is \"", metadata("yoso_format"), "\", expected ", kFormat);
  recipe_ = parse_recipe(metadata("recipe"), path_ + ": recipe");
  visit(
      [&](const char* key, auto& value) {
        if (!from_text(metadata(key), value))
          fail(path_, ": ", key, " is \"", metadata(key), "\", expected a number from 0 on");
      },
      state_);
}

const std::string& Checkpoint::metadata(const std::string& key) const {
  const auto found = file_.content().metadata.find(key);
  if (found == file_.content().metadata.end())
    fail(path_, ": has no ", key, " in its metadata, expected a checkpoint that yoso train wrote");
  return found->second;
}

at::Tensor Checkpoint::tensor(const std::string& name) const {
  const TensorView* view = file_.content().find(name);
  if (view == nullptr) fail(path_, ": has no tensor \"", name, "\"");
  for (const auto& [type, dtype] : kDTypes) {
    if (view->dtype != dtype) continue;
    at::Tensor copy = at::empty(view->shape, type);
    if (!view->bytes.empty())
      std::memcpy(copy.mutable_data_ptr(), view->bytes.data(), view->bytes.size());
    return copy;
  }
  fail(path_, ": tensor \"", name, "\" has dtype ", view->dtype, ", expected one such as F32");
}

void Checkpoint::load_weights(torch::nn::Module& model) const {
  const at::NoGradGuard no_grad;
  for (const auto& [name, weight] : weights_of(model)) {
    const at::Tensor stored = tensor(name);
    if (stored.sizes() != weight.sizes() || stored.scalar_type() != weight.scalar_type())
      fail(path_, ": tensor \"", name, "\" is ", stored.scalar_type(), " ", stored.sizes(),
           ", expected ", weight.scalar_type(), " ", weight.sizes());
    weight.copy_(stored);
  }
}

void Checkpoint::load_run(torch::nn::Module& model, torch::optim::AdamW& optimizer) const {
  load_weights(model);
  for (const auto& item : model.named_parameters()) {
    if (file_.content().find("optimizer.step." + item.key()) == nullptr) continue;
    const auto like = [&](const std::string& name) {
      at::Tensor moment = tensor(name);
      if (moment.sizes() != item.value().sizes() ||
          moment.scalar_type() != item.value().scalar_type())
        fail(path_, ": tensor \"", name, "\" is ", moment.scalar_type(), " ", moment.sizes(),
             ", expected ", item.value().scalar_type(), " ", item.value().sizes());
      return moment.to(item.value().device());
    };
    const at::Tensor step = tensor("optimizer.step." + item.key());
    if (step.numel() != 1 || step.scalar_type() != at::kLong)
      fail(path_, ": tensor \"optimizer.step.", item.key(), "\" is ", step.scalar_type(), " ",
           step.sizes(), ", expected one Long");
    auto moments = std::make_unique<AdamWParamState>();
    moments->step(step.item<int64_t>());
    moments->exp_avg(like("optimizer.exp_avg." + item.key()));
    moments->exp_avg_sq(like("optimizer.exp_avg_sq." + item.key()));
    optimizer.state()[item.value().unsafeGetTensorImpl()] = std::move(moments);
  }
  load_generator("generator.cpu", at::kCPU);
  const at::Device device = device_of(model);
  if (device.is_cuda() && file_.content().find("generator.cuda") != nullptr)
    load_generator("generator.cuda", device);
}

void Checkpoint::load_generator(const std::string& name, at::Device device) const {
  const at::Tensor stored = tensor(name), now = nn::generator_state(device);
  if (stored.sizes() != now.sizes() || stored.scalar_type() != at::kByte)
    fail(path_, ": tensor \"", name, "\" is ", stored.scalar_type(), " ", stored.sizes(),
         ", expected Byte ", now.sizes());
  nn::set_generator_state(stored, device);
}

}  // namespace yoso
