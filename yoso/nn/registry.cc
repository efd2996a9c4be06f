// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "yoso/core/check.h"
#include "yoso/nn/bigbird_attention.h"
#include "yoso/nn/linear_attention.h"
#include "yoso/nn/linformer_attention.h"
#include "yoso/nn/longformer_attention.h"
#include "yoso/nn/none_attention.h"
#include "yoso/nn/nystrom_attention.h"
#include "yoso/nn/performer_attention.h"
#include "yoso/nn/race_attention.h"
#include "yoso/nn/reformer_attention.h"
#include "yoso/nn/skein_attention.h"
#include "yoso/nn/softmax_attention.h"
#include "yoso/nn/yoso_attention.h"

namespace yoso::nn {
namespace {

using Make = std::shared_ptr<Attention> (*)(const AttentionConfig&);

template <class Kind>
std::shared_ptr<Attention> make(const AttentionConfig& config) {
  return std::make_shared<Kind>(config);
}

const std::map<std::string, Make>& kinds() {
  static const std::map<std::string, Make> table = {
      {"bigbird", make<BigbirdAttention>},     {"linear", make<LinearAttention>},
      {"linformer", make<LinformerAttention>}, {"longformer", make<LongformerAttention>},
      {"none", make<NoneAttention>},           {"nystrom", make<NystromAttention>},
      {"performer", make<PerformerAttention>}, {"race", make<RaceAttention>},
      {"reformer", make<ReformerAttention>},   {"skein", make<SkeinAttention>},
      {"softmax", make<SoftmaxAttention>},     {"yoso", make<YosoAttention>},
  };
  return table;
}

}  // namespace

std::shared_ptr<Attention> make_attention(const AttentionConfig& config) {
  const auto kind = kinds().find(config.kind);
  if (kind == kinds().end()) {
    fail("attention.kind is '", config.kind, "', expected one of ", listed(attention_kinds()));
  }
  return kind->second(config);
}

std::vector<std::string> attention_kinds() {
  std::vector<std::string> names;
  for (const auto& [name, make] : kinds()) names.push_back(name);
  return names;
}

}  // namespace yoso::nn
