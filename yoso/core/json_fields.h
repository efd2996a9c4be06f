// Fields of a JSON object, with errors that name file, field, what was got and expected. Includes
// nlohmann's header, which no operator needs: for .cc files of readers, and not installed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "yoso/core/check.h"

namespace yoso {

inline nlohmann::json parse_json(std::string_view text, const std::string& name) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail(name, ": is not JSON at byte ", error.byte);
  } catch (const nlohmann::json::out_of_range&) {
    fail(name, ": has a number beyond all bounds, expected one that fits a double");
  }
}

class JsonFields {
 public:
  using Json = nlohmann::json;

  // `object` must outlive this; `where` begins the names of fields in messages: "model.".
  JsonFields(const Json& object, std::string name, std::string where = "")
      : object_(object), name_(std::move(name)), where_(std::move(where)) {
    if (!object.is_object())
      fail(name_, ": ", where_.empty() ? "content" : where_.substr(0, where_.size() - 1), " is ",
           object.type_name(), ", expected an object");
  }

  // Null when the field is absent or null.
  const Json* find(const char* field) const {
    const auto found = object_.find(field);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  const Json& required(const char* field) const {
    const Json* value = find(field);
    if (value == nullptr) fail(name_, ": has no ", where_, field);
    return *value;
  }

  JsonFields object(const char* field) const {
    return {required(field), name_, join(where_, field, '.')};
  }

  std::string text(const char* field) const { return text_of(field, required(field)); }
  std::string text(const char* field, const char* otherwise) const {
    const Json* value = find(field);
    return value == nullptr ? otherwise : text_of(field, *value);
  }

  bool flag(const char* field, bool otherwise) const {
    const Json* value = find(field);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(field, *value, "true or false");
    return value->get<bool>();
  }

  int64_t number(const char* field) const { return number_of(field, required(field)); }
  int64_t number(const char* field, int64_t otherwise) const {
    const Json* value = find(field);
    return value == nullptr ? otherwise : number_of(field, *value);
  }

  double real(const char* field, double otherwise) const {
    const Json* value = find(field);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) refuse(field, *value, "a number");
    return value->get<double>();
  }

  const Json& array(const char* field) const {
    const Json& value = required(field);
    if (!value.is_array()) refuse(field, value, "a list");
    return value;
  }

  template <class... Expected>
  [[noreturn]] void refuse(const char* field, const Json& got, const Expected&... expected) const {
    fail(name_, ": ", where_, field, " is ", shown(got), ", expected ", expected...);
  }

  // At least 0, and fits an int32_t.
  int64_t number_of(const char* field, const Json& value) const {
    if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<int32_t>::max())
      refuse(field, value, "a whole number from 0 to ", std::numeric_limits<int32_t>::max());
    return value.get<int64_t>();
  }

  std::string text_of(const char* field, const Json& value) const {
    if (!value.is_string()) refuse(field, value, "a text");
    return value.get<std::string>();
  }

  const std::string& name() const { return name_; }

 private:
  static std::string shown(const Json& value) {
    return value.is_structured() ? value.type_name() : value.dump();
  }

  const Json& object_;
  std::string name_, where_;
};

}  // namespace yoso
