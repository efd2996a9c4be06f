// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/transformers_checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <set>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/train/safetensors.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;

struct TypeName {
  at::ScalarType type;
  const char* name;   // in safetensors
  const char* torch;  // in config.json
};
constexpr std::array kTypes = {
    TypeName{at::kFloat, "F32", "float32"},
    TypeName{at::kHalf, "F16", "float16"},
    TypeName{at::kBFloat16, "BF16", "bfloat16"},
};

std::string config_path(const std::string& folder) { return folder + "/config.json"; }
std::string weights_path(const std::string& folder) { return folder + "/model.safetensors"; }

at::Tensor tensor_of(const TensorView& view, const std::string& path) {
  const auto* type = std::ranges::find(kTypes, std::string_view(view.dtype), &TypeName::name);
  if (type == kTypes.end())
    fail(path, ": tensor \"", view.name, "\" is ", view.dtype, ", expected F32, F16 or BF16");
  at::Tensor copy = at::empty(view.shape, type->type);
  if (!view.bytes.empty())
    std::memcpy(copy.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
  return copy;
}

// Names of what older versions of transformers stored and this model computes; the tied weights of
// a masked LM must be what they are tied to.
void check_surplus(const Safetensors& content, const std::set<std::string>& read,
                   const TransformersConfig& config, const std::string& path) {
  const bool tied_lm = config.head == HeadKind::kMaskedLm && config.tied;
  for (const TensorView& view : content.tensors) {
    if (read.contains(view.name)) continue;
    if (view.name.ends_with("embeddings.position_ids") ||
        view.name.ends_with("embeddings.token_type_ids"))
      continue;
    const char* same = !tied_lm ? nullptr
                       : view.name == "cls.predictions.decoder.weight"
                           ? "yoso.embeddings.word_embeddings.weight"
                       : view.name == "cls.predictions.decoder.bias" ? "cls.predictions.bias"
                                                                     : nullptr;
    if (same == nullptr)
      fail(path, ": has a tensor \"", view.name, "\", which ", architecture_of(config.head),
           " has not");
    const TensorView* other = content.find(same);
    if (view.dtype != other->dtype || !std::ranges::equal(view.bytes, other->bytes))
      fail(path, ": tensor \"", view.name, "\" differs from \"", same,
           "\", expected the same with tie_word_embeddings");
  }
}

}  // namespace

bool is_transformers_checkpoint(const std::string& path) { return fs::exists(config_path(path)); }

TransformersConfig read_transformers_config(const std::string& folder) {
  return parse_transformers_config(read_text(config_path(folder)), config_path(folder));
}

std::shared_ptr<TransformersModel> read_transformers_model(const std::string& folder,
                                                           const TransformersConfig& config,
                                                           PaddingMode padding) {
  const std::string path = weights_path(folder);
  if (!fs::exists(path) && fs::exists(folder + "/pytorch_model.bin"))
    fail(path, ": is not there, but pytorch_model.bin is; tools/pickle_to_safetensors converts it");
  const SafetensorsFile file(path);
  const auto model = std::make_shared<TransformersModel>(config, padding);
  const at::NoGradGuard no_grad;
  std::set<std::string> read;
  for (const auto& [name, weight] : model->weights()) {
    const TensorView* view = file.content().find(name);
    if (view == nullptr)
      fail(path, ": has no tensor \"", name, "\", which ", architecture_of(config.head), " has");
    const at::Tensor stored = tensor_of(*view, path);
    if (stored.sizes() != weight.sizes())
      fail(path, ": tensor \"", name, "\" is ", stored.sizes(), ", expected ", weight.sizes());
    weight.copy_(stored);
    read.insert(name);
  }
  check_surplus(file.content(), read, config, path);
  return model;
}

void write_transformers_model(const std::string& folder, const TransformersModel& model,
                              at::ScalarType type) {
  const auto* written = std::ranges::find(kTypes, type, &TypeName::type);
  if (written == kTypes.end())
    fail("transformers: weights are written as ", type, ", expected Float, Half or BFloat16");
  make_folder(folder);

  Safetensors content;
  content.metadata["format"] = "pt";
  std::vector<at::Tensor> kept;  // own the bytes of content
  for (const auto& [name, weight] : model.weights()) {
    kept.push_back(weight.detach().to(at::kCPU, type).contiguous());
    content.tensors.push_back(
        {name,
         written->name,
         kept.back().sizes().vec(),
         {static_cast<const std::byte*>(kept.back().const_data_ptr()), kept.back().nbytes()}});
  }
  write_safetensors(weights_path(folder), content);
  FileWriter config(config_path(folder));
  config.write(to_json(model.config(), written->torch));
  config.commit();
}

}  // namespace yoso
