// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_methods.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <ostream>

#include "yoso/cli/bench_check.h"
#include "yoso/cli/bench_results.h"
#include "yoso/cli/lra_methods.h"
#include "yoso/cli/machine.h"
#include "yoso/core/check.h"
#include "yoso/models/encoder.h"
#include "yoso/nn/generator.h"
#include "yoso/train/evaluate.h"
#include "yoso/train/recipe.h"

namespace yoso {
namespace {

using Json = nlohmann::json;
using Run = std::function<void()>;

constexpr int64_t kShortest = 256;    // where the lengths begin that tell what a longer one takes
constexpr int64_t kVocabulary = 512;  // of bytes, as in the text task
constexpr int64_t kSeed = 1;

struct MethodCase {
  std::string method, part, pass, dtype;
  int64_t tokens = 0, threads = 1;

  bool with_backward() const { return pass != "forward"; }
  std::string series() const {
    return join(method, ", ", part, " ", pass, ", ", dtype, ", threads: ", threads);
  }
  std::string name() const { return join(series(), ", ", tokens, " tokens"); }
};

// Growth like n^e between two measurements goes on; less than linear is a fixed cost that ends,
// more than quadratic is none of the methods.
double extrapolate(double near_length, double near, double far_length, double far, double length) {
  const double exponent = std::log(far / near) / std::log(far_length / near_length);
  return far * std::pow(length / far_length,
                        std::isfinite(exponent) ? std::clamp(exponent, 1.0, 2.0) : 2.0);
}

// What is known of a method by length, and from which length on it is left out and why.
struct Series {
  std::map<int64_t, Times> times;
  int64_t end = std::numeric_limits<int64_t>::max();
  std::string why;
};

// A GPU refuses what does not fit; without one the system would kill the process.
double most_mib(const MethodsGrid& grid) {
  if (grid.max_mib > 0) return grid.max_mib;
  return grid.device.is_cpu() ? available_mib() : std::numeric_limits<double>::infinity();
}

class MethodsRun {
 public:
  MethodsRun(const MethodsGrid& grid, std::ostream& out, std::ostream& log)
      : grid_(grid),
        log_(log),
        table_(out, 15),
        most_mib_(most_mib(grid)),
        methods_(lra::chosen_methods(grid.methods)) {
    std::stable_partition(methods_.begin(), methods_.end(),
                          [](const lra::Method& method) { return method.name == "softmax"; });
    for (const lra::Method& method : methods_) recipes_[method.name] = recipe_of(method);
    const EncoderConfig& encoder = recipes_.begin()->second.model.encoder;
    out << "heads " << encoder.attention.heads << ", width " << grid.width << ", encoder of "
        << encoder.layers << " layers" << (encoder.shared_layers ? " that share weights" : "")
        << "\nx softmax: times faster than softmax of the same row\n";
    table_.add_column("part", 9, "part");
    table_.add_column("pass", 17, "pass");
    table_.add_column("dtype", 9, "dtype");
    if (grid.threads.size() > 1) table_.add_column("threads", 8, "threads");
    table_.add_column("tokens", 10, "tokens");
    table_.add_column("median ms", 11, "median_ms");
    table_.add_column("x softmax", 11, "times_faster_than_softmax");
    table_.add_column("peak MiB", 10, "peak_mib");
    table_.print_heads();
  }

  Json run() {
    for (const auto& [name, recipe] : recipes_) check(recipe.model.encoder.attention);
    for (const int64_t threads : grid_.threads)
      for (const std::string& part : grid_.parts)
        for (const std::string& pass : grid_.passes)
          for (const std::string& dtype : grid_.dtypes)
            for (const int64_t tokens : grid_.tokens)
              for (const lra::Method& method : methods_)
                add_row({method.name, part, pass, dtype, tokens, threads});
    return std::move(results_);
  }

 private:
  Recipe recipe_of(const lra::Method& method) const {
    Recipe recipe;
    EncoderConfig& encoder = recipe.model.encoder;
    encoder.vocab_size = kVocabulary;
    encoder.hidden = grid_.heads * grid_.width;
    encoder.feed_forward = 4 * encoder.hidden;
    encoder.layers = 6;
    encoder.shared_layers = true;
    encoder.attention.heads = grid_.heads;
    encoder.attention.yoso.mode = Mode::kSampled;
    for (const auto* settings : {&method.settings, &grid_.settings})
      for (const std::string& setting : *settings) {
        if (!setting.starts_with("model."))
          fail("bench: --set is '", setting, "', expected a key of [model]");
        set_key(recipe, setting);
      }
    if (encoder.attention.heads != grid_.heads || encoder.hidden != grid_.heads * grid_.width)
      fail("bench: --set gives ", encoder.attention.heads, " heads in ", encoder.hidden,
           " columns, expected ", grid_.heads, " of ", grid_.width, ": --heads and --width");
    encoder.attention.head_width = grid_.width;
    return recipe;
  }

  // Other kinds have no reference outside their tests.
  void check(const nn::AttentionConfig& attention) const {
    if (attention.kind != "yoso") return;
    const YosoOptions& yoso = attention.yoso;
    BenchCase c;
    c.kind = name_of(yoso.mode);
    c.width = grid_.width, c.device = grid_.device;
    c.hashes = yoso.num_hashes, c.bits = static_cast<int64_t>(yoso.code_bits);
    for (const std::string& dtype : grid_.dtypes) {
      c.dtype = dtype;
      check_attention(c);
    }
  }

  // One run of the case, with all that it needs made already.
  Run prepare(const MethodCase& c) const {
    const at::Device device = grid_.device;
    const Precision precision = c.dtype == "bfloat16" ? Precision::kBFloat16 : Precision::kNone;
    const int64_t batch = grid_.batch_of(c.tokens);
    EncoderConfig config = recipes_.at(c.method).model.encoder;
    config.max_length = config.attention.max_length = c.tokens;
    std::shared_ptr<torch::nn::Module> module;
    std::vector<at::Tensor> inputs;
    std::function<at::Tensor()> forward;
    if (c.part == "encoder") {
      auto encoder = std::make_shared<Encoder>(config, /*activation_checkpointing=*/false);
      const auto counts = at::TensorOptions(device).dtype(at::kLong);
      const at::Tensor tokens = at::randint(1, kVocabulary, {batch, c.tokens}, counts);
      const at::Tensor mask = at::ones_like(tokens, at::kBool);
      forward = [encoder, tokens, mask] { return encoder->forward(tokens, mask); };
      module = encoder;
    } else {
      auto attention = nn::make_attention(config.attention);
      const auto type = at::TensorOptions(device).dtype(scalar_type(c.dtype));
      for (int i = 0; i < 3; ++i)
        inputs.push_back(at::randn({batch, c.tokens, grid_.heads, grid_.width}, type)
                             .requires_grad_(c.with_backward()));
      forward = [attention, inputs] {
        return attention->forward(inputs[0], inputs[1], inputs[2], /*mask=*/{});
      };
      module = attention;
    }
    module->to(device);
    module->train(c.with_backward());
    if (!c.with_backward()) {
      return [forward, precision, device] {
        const c10::NoGradGuard no_grad;
        const AutocastScope autocast(precision, device.type());
        forward();
      };
    }
    for (const at::Tensor& parameter : module->parameters()) inputs.push_back(parameter);
    return [forward, precision, device, inputs] {
      at::Tensor out;
      {
        const AutocastScope autocast(precision, device.type());
        out = forward();
      }
      // Kind none reads no queries.
      torch::autograd::grad({out}, inputs, {at::ones_like(out)}, /*retain_graph=*/std::nullopt,
                            /*create_graph=*/false, /*allow_unused=*/true);
    };
  }

  // Nothing where the length is left out; series.why says why.
  std::optional<Times> measure_unless(const MethodCase& c, const Effort& effort, Series& series) {
    if (c.tokens >= series.end) return {};
    const auto leave_out = [&](std::string why) {
      series.end = c.tokens;
      series.why = std::move(why);
      log_ << "left out: " << c.name() << ": " << series.why << std::endl;
    };
    if (std::string why = forecast(series, c); !why.empty()) {
      leave_out(std::move(why));
      return {};
    }
    try {
      const nn::GeneratorScope seeded(kSeed, grid_.device);
      Times times = measure(prepare(c), grid_.device, c.threads, effort);
      times.peak_total_mib = std::max(0.0, times.peak_total_mib - before_mib_);
      return series.times[c.tokens] = times;
    } catch (const c10::OutOfMemoryError&) {
      leave_out(join("out of memory at ", c.tokens, " tokens"));
    } catch (const c10::Error& error) {  // a processor's memory, or a limit of an operator's
      const std::string message = error.what_without_backtrace();
      leave_out(join(c.tokens, " tokens: ", message.substr(0, message.find('\n'))));
    }
    if (grid_.device.is_cuda()) at::accelerator::emptyCache();
    return {};
  }

  // Why a length is not to be run, or "".
  std::string forecast(const Series& series, const MethodCase& c) const {
    const auto above = series.times.lower_bound(c.tokens);
    if (std::distance(series.times.begin(), above) < 2) return "";
    const auto far = std::prev(above), near = std::prev(far);
    const auto grown = [&](double Times::*value) {
      return extrapolate(static_cast<double>(near->first), near->second.*value,
                         static_cast<double>(far->first), far->second.*value,
                         static_cast<double>(c.tokens));
    };
    const double seconds = grown(&Times::min_ms) / 1000;
    if (seconds > grid_.skip_slower_than)
      return join("about ", format_number(seconds), " s a run at ", c.tokens, " tokens");
    const double mib = grown(&Times::peak_total_mib);
    if (mib > most_mib_) return join("about ", format_number(mib), " MiB at ", c.tokens, " tokens");
    if (seconds > kAnnounceSeconds)
      log_ << "running: " << c.name() << ", about " << format_number(seconds) << " s a run"
           << std::endl;
    return "";
  }

  void add_row(const MethodCase& c) {
    Series& series = series_[c.series()];
    if (c.part == "layer" && recipes_[c.method].model.encoder.attention.kind == "none") {
      series.end = 0;  // a ten-thousandth of a millisecond would flatten every chart
      series.why = "the values are passed on";
    }
    MethodCase shorter = c;
    for (shorter.tokens = kShortest; shorter.tokens < c.tokens; shorter.tokens *= 2)
      if (series.times.lower_bound(shorter.tokens) == series.times.end())
        measure_unless(shorter, {1, 0, grid_.effort.max_seconds}, series);
    const auto times = measure_unless(c, grid_.effort, series);

    MethodCase softmax = c;
    softmax.method = "softmax";
    const auto& peers = series_[softmax.series()].times;
    const auto peer = peers.find(c.tokens);
    const auto of_times = [&](double Times::*value) {
      return times ? Json((*times).*value) : Json(nullptr);
    };
    Json row = {{"kind", c.method},
                {"mode", nullptr},
                {"part", c.part},
                {"device", grid_.device.str()},
                {"dtype", c.dtype},
                {"tokens", c.tokens},
                {"batch", grid_.batch_of(c.tokens)},
                {"heads", grid_.heads},
                {"width", grid_.width},
                {"threads", c.threads},
                {"pass", c.pass},
                {"skipped", !times.has_value()},
                {"left_out", times ? Json(nullptr) : Json(series.why)},
                {"runs", times ? times->runs : 0},
                {"median_ms", of_times(&Times::median_ms)},
                {"min_ms", of_times(&Times::min_ms)},
                {"max_ms", of_times(&Times::max_ms)},
                {"times_faster_than_softmax", times && peer != peers.end()
                                                  ? Json(peer->second.median_ms / times->median_ms)
                                                  : Json(nullptr)},
                {"peak_mib", of_times(&Times::peak_mib)}};
    table_.print(row);
    results_.push_back(std::move(row));
  }

  const MethodsGrid& grid_;
  std::ostream& log_;
  BenchTable table_;
  // Of the process without any case; peak_total_mib of the series is beyond it.
  const double before_mib_ = grid_.device.is_cpu() ? resident_mib() : 0;
  const double most_mib_;
  std::vector<lra::Method> methods_;
  std::map<std::string, Recipe> recipes_;  // of the methods
  std::map<std::string, Series> series_;
  Json results_ = Json::array();
};

}  // namespace

Json run_grid(const MethodsGrid& grid, std::ostream& out, std::ostream& log) {
  return MethodsRun(grid, out, log).run();
}

}  // namespace yoso
