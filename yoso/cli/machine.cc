// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/machine.h"

#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "yoso/cpu/simd.h"

namespace yoso {
namespace {

// The rest of the first line of `path` that begins with `key`, without ':' and blanks; or "".
std::string field(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t begin = line.find_first_not_of(": \t", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

// A line "VmHWM:   1234 kB" of the system's files; 0 where there is none.
double line_mib(const char* path, const char* key) {
  const std::string text = field(path, key);
  return text.empty() ? 0 : std::stod(text) / 1024;
}

int64_t usable_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
  return std::thread::hardware_concurrency();
}

}  // namespace

Machine this_machine() {
  Machine machine;
  machine.cpu = field("/proc/cpuinfo", "model name");
  if (machine.cpu.empty()) machine.cpu = "unknown";
  machine.cores = usable_cores();
  machine.memory_gib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1 << 30);
  machine.simd = cpu::simd_level();
  return machine;
}

std::string utc_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts;
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
  return text;
}

std::string command_line() {
  std::ifstream file("/proc/self/cmdline");
  std::string line, argument;
  while (std::getline(file, argument, '\0'))
    line += line.empty() ? std::filesystem::path(argument).filename().string() : " " + argument;
  return line;
}

double resident_mib() { return line_mib("/proc/self/status", "VmRSS"); }

double available_mib() { return line_mib("/proc/meminfo", "MemAvailable"); }

double peak_mib() {
  if (const double peak = line_mib("/proc/self/status", "VmHWM"); peak > 0) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void start_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace yoso
