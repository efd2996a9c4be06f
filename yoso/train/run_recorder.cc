// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/run_recorder.h"

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "yoso/core/check.h"
#include "yoso/train/tensorboard.h"

namespace yoso {
namespace {

using nlohmann::ordered_json;

std::string lines_path(const std::string& folder) { return folder + "/run.jsonl"; }
std::string events_path(const std::string& folder) { return folder + "/events.out.tfevents.yoso"; }

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Every number of a record but its step and its time.
std::string events_of(const ordered_json& record) {
  const std::string group = record.value("split", "train");
  std::string frames;
  for (const auto& [key, value] : record.items())
    if (value.is_number() && key != "step" && key != "time" && key != "examples")
      frames += tensorboard_scalar(record.at("time"), record.at("step"), group + "/" + key, value);
  return frames;
}

void keep_records(const std::string& folder, const RunRecorder::Keep& keep) {
  const std::string path = lines_path(folder);
  const std::string text = std::filesystem::exists(path) ? read_text(path) : "";
  FileWriter lines(path), events(events_path(folder));
  events.write(tensorboard_header(now()));
  int64_t number = 0;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    ++number;
    const std::string line = text.substr(begin, end + 1 - begin);
    try {
      const ordered_json record = ordered_json::parse(line);
      if (!keep(record.at("step"), record.value("split", ""))) continue;
      events.write(events_of(record));
    } catch (const ordered_json::exception&) {
      fail(path, ":", number, ": is not a record of a run, expected an object with step and time");
    }
    lines.write(line);
  }
  lines.commit();
  events.commit();
}

}  // namespace

RunRecorder::RunRecorder(const std::string& folder, const Keep& keep)
    : lines_((keep_records(folder, keep), lines_path(folder))), events_(events_path(folder)) {}

void RunRecorder::add(const StepReport& r) {
  const ordered_json record = {{"step", r.step},
                               {"loss", r.loss},
                               {"learning_rate", r.learning_rate},
                               {"tokens_per_s", r.tokens_per_s},
                               {"seconds", r.seconds},
                               {"peak_mib", r.peak_mib},
                               {"input_s", r.input_s},
                               {"time", now()}};
  lines_.write(record.dump() + "\n");
  events_.write(events_of(record));
}

void RunRecorder::add(const EvaluationReport& r) {
  const ordered_json record = {
      {"step", r.step},         {"split", r.split},     {"loss", r.loss}, {"accuracy", r.accuracy},
      {"examples", r.examples}, {"seconds", r.seconds}, {"time", now()}};
  lines_.write(record.dump() + "\n");
  events_.write(events_of(record));
}

}  // namespace yoso
