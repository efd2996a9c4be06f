// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/progress.h"

#include <cmath>
#include <cstdio>
#include <string>

namespace yoso {
namespace {

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

std::string duration(double seconds) {
  const auto whole = static_cast<long long>(std::llround(seconds));
  return whole < 3600 ? format("%lld:%02lld", whole / 60, whole % 60)
                      : format("%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

void Progress::on_start(int64_t first_step, int64_t parameters) {
  first_step_ = first_step;
  started_ = next_ = Clock::now();
  begin_line();
  out_ << (first_step == 0
               ? "training "
               : format("resuming after step %lld, ", static_cast<long long>(first_step)))
       << format("%.3g million parameters, %lld steps", static_cast<double>(parameters) * 1e-6,
                 static_cast<long long>(steps_))
       << std::endl;
}

void Progress::on_step(const StepReport& report) {
  const bool first = report.step == first_step_ + 1;
  loss_ += (first ? 1 : 0.05) * (report.loss - loss_);
  tokens_per_s_ += (first ? 1 : 0.05) * (report.tokens_per_s - tokens_per_s_);
  const Clock::time_point now = Clock::now();
  if (now < next_ && report.step != steps_) return;
  next_ = now + (on_terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10));

  const std::chrono::duration<double> spent = now - started_;
  const double left = spent.count() / static_cast<double>(report.step - first_step_) *
                      static_cast<double>(steps_ - report.step);
  begin_line();
  out_ << format("step %lld/%lld  loss %.4f  %.0f tokens/s  %s left  %.0f MiB",
                 static_cast<long long>(report.step), static_cast<long long>(steps_), loss_,
                 tokens_per_s_, duration(left).c_str(), report.peak_mib);
  if (!on_terminal_) out_ << '\n';
  out_ << std::flush;
}

void Progress::on_evaluation(const EvaluationReport& report, bool is_best) {
  begin_line();
  out_ << format("step %lld  %s loss %.4f  accuracy %.4f  (%lld examples)%s",
                 static_cast<long long>(report.step), report.split.c_str(), report.loss,
                 report.accuracy, static_cast<long long>(report.examples),
                 is_best ? "  best so far" : "")
       << std::endl;
}

void Progress::on_no_graphs(const std::string& why) {
  begin_line();
  out_ << "steps are queued kernel by kernel: " << why << std::endl;
}

void Progress::begin_line() {
  if (on_terminal_) out_ << "\r\033[K";
  if (!name_.empty()) out_ << name_ << ": ";
}

}  // namespace yoso
