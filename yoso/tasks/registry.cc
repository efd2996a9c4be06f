// Every task there is. Adding one: a file pair, a line here, a recipe.
// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "yoso/core/check.h"
#include "yoso/tasks/image.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/listops.h"
#include "yoso/tasks/pathfinder.h"
#include "yoso/tasks/retrieval.h"
#include "yoso/tasks/reversal.h"
#include "yoso/tasks/task.h"
#include "yoso/tasks/text.h"

namespace yoso {
namespace {

using Make = std::shared_ptr<Task> (*)(const std::string& name, const std::string& data,
                                       const TaskOptions& options);

template <class Kind>
std::shared_ptr<Task> make(const std::string& /*name*/, const std::string& data,
                           const TaskOptions& options) {
  return std::make_shared<Kind>(data, options);
}

template <int64_t kSide>
std::shared_ptr<Task> make_pathfinder(const std::string& name, const std::string& data,
                                      const TaskOptions& options) {
  return std::make_shared<Pathfinder>(name, kSide, data, options);
}

const std::map<std::string, Make>& tasks() {
  static const std::map<std::string, Make> table = {
      {"image", make<ImageTask>},
      {"listops", make<ListOps>},
      {"pathfinder32", make_pathfinder<32>},
      {"pathfinder64", make_pathfinder<64>},
      {"pathfinder256", make_pathfinder<256>},
      {"pathx", make_pathfinder<128>},
      {"retrieval", make<Retrieval>},
      {"reversal",
       [](const std::string&, const std::string&, const TaskOptions& options)
           -> std::shared_ptr<Task> { return std::make_shared<Reversal>(options); }},
      {"text", make<Text>},
  };
  return table;
}

}  // namespace

std::shared_ptr<Task> make_task(const std::string& name, const std::string& data,
                                const TaskOptions& options) {
  const auto task = tasks().find(name);
  if (task == tasks().end()) {
    fail("task is ", in_quotes(name), ", expected one of ", listed(task_names()));
  }
  return task->second(name, data, options);
}

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : tasks()) names.push_back(name);
  return names;
}

}  // namespace yoso
