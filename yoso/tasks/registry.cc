// Every task there is. Adding one: a file pair, a line here, a recipe.
// SPDX-License-Identifier: Apache-2.0
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

const char* name_of(Split split) {
  constexpr const char* kNames[] = {"train", "dev", "test"};
  return kNames[static_cast<size_t>(split)];
}

std::shared_ptr<Task> make_task(const std::string& name, const std::string& data,
                                const TaskOptions& options) {
  if (name == "image") return std::make_shared<ImageTask>(data, options);
  if (name == "listops") return std::make_shared<ListOps>(data, options);
  if (name == "pathfinder32") return std::make_shared<Pathfinder>(name, 32, data, options);
  if (name == "pathfinder64") return std::make_shared<Pathfinder>(name, 64, data, options);
  if (name == "pathfinder256") return std::make_shared<Pathfinder>(name, 256, data, options);
  if (name == "pathx") return std::make_shared<Pathfinder>(name, 128, data, options);
  if (name == "retrieval") return std::make_shared<Retrieval>(data, options);
  if (name == "reversal") return std::make_shared<Reversal>(options);
  if (name == "text") return std::make_shared<Text>(data, options);
  fail("task is ", in_quotes(name), ", expected one of ", listed(task_names()));
}

std::vector<std::string> task_names() {
  return {"image", "listops",   "pathfinder32", "pathfinder64", "pathfinder256",
          "pathx", "retrieval", "reversal",     "text"};
}

}  // namespace yoso
