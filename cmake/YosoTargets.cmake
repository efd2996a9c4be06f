# One function a kind of target, so that a folder's CMakeLists.txt is a list of names.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
if(YOSO_DEVELOPER)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
  include(GoogleTest)
endif()

add_library(yoso_options INTERFACE)
target_include_directories(yoso_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
# Designated initialisers leave out what has a default: masks, offsets, scales.
target_compile_options(yoso_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-Wno-sign-conversion;-Wno-missing-field-initializers>"
  "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${YOSO_WERROR}>>:-Werror>")
if(YOSO_CUDA)
  # 554: BasicArray's conversion to itself, which its requires-clause rules out.
  target_compile_options(yoso_options INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-diag-suppress=554;-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${YOSO_WERROR}>>:-Werror=all-warnings>")
endif()

# yoso_add_library(ops SOURCES ... LINK ...): target yoso_ops, alias yoso::ops.
function(yoso_add_library name)
  cmake_parse_arguments(ARG "SHARED" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  if(ARG_SHARED)
    add_library(yoso_${name} SHARED ${ARG_SOURCES})
  else()
    add_library(yoso_${name} STATIC ${ARG_SOURCES})
  endif()
  add_library(yoso::${name} ALIAS yoso_${name})
  target_include_directories(yoso_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                 $<INSTALL_INTERFACE:include>)
  target_link_libraries(yoso_${name} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK}
                                            $<BUILD_INTERFACE:yoso_options>)
endfunction()

# yoso_add_test(hash_test yoso::ops): hash_test.cc in this folder; every TEST is a ctest case.
function(yoso_add_test name)
  if(YOSO_DEVELOPER)
    add_executable(${name} ${name}.cc)
    target_link_libraries(${name} PRIVATE ${ARGN} yoso_options GTest::gmock GTest::gtest_main)
    # LibTorch can take long to load from a cold disk.
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
      PROPERTIES TIMEOUT 1800)
  endif()
endfunction()

# yoso_add_gpu_test(attention_cuda_test yoso::autograd): the same for a test that needs a GPU, from
# its .cu where it has kernels of its own; one ctest case, label cuda.
function(yoso_add_gpu_test name)
  if(YOSO_DEVELOPER AND YOSO_CUDA)
    set(source ${name}.cc)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cu)
      set(source ${name}.cu)
    endif()
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE ${ARGN} yoso_options GTest::gmock GTest::gtest_main)
    add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${name} PROPERTIES
      LABELS cuda TIMEOUT 1800 SKIP_REGULAR_EXPRESSION "no GPU to test on")
  endif()
endfunction()

# yoso_add_bench(hash_bench yoso::ops)
function(yoso_add_bench name)
  if(YOSO_DEVELOPER)
    add_executable(${name} ${name}.cc)
    target_link_libraries(${name} PRIVATE ${ARGN} yoso_options benchmark::benchmark_main)
  endif()
endfunction()

# yoso_add_reference_test(tokenizers_package tokenizers_cases.py tokenizer_test ARGS...): the script
# of tests/references writes what a Python package computes, and the test compares. Skipped, with the
# reason, where tools/python cannot install the package.
function(yoso_add_reference_test name script test)
  if(YOSO_DEVELOPER)
    add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/tools/python
      ${PROJECT_SOURCE_DIR}/tests/references/${script} ${CMAKE_CURRENT_BINARY_DIR}/${name}
      ${ARGN} --test $<TARGET_FILE:${test}>)
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1800)
  endif()
endfunction()
