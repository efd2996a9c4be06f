# yoso_add_op(hash) adds the operator's row of files in this folder: hash.h, hash.cc (checks and
# reference), hash_cpu.cc, hash_cuda.cu, hash_test.cc, hash_bench.cc. A missing file stops the
# configure step.
function(yoso_add_op name)
  foreach(role .h .cc _cpu.cc _cuda.cu _test.cc _bench.cc)
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${name}${role})
      message(FATAL_ERROR "operator ${name}: ${CMAKE_CURRENT_SOURCE_DIR}/${name}${role} is missing")
    endif()
  endforeach()
  target_sources(yoso_ops PRIVATE ${name}.cc ${name}_cpu.cc)
  yoso_add_test(${name}_test yoso::ops)
  yoso_sweep_simd_levels(${name}_test)
  if(YOSO_CUDA)
    target_sources(yoso_ops PRIVATE ${name}_cuda.cu)
    yoso_add_cuda_test(${name})
  endif()
  yoso_add_bench(${name}_bench yoso::ops)
endfunction()

# The same test on every SIMD level below the best one, one ctest case a level.
function(yoso_sweep_simd_levels test)
  if(NOT YOSO_DEVELOPER)
    return()
  endif()
  foreach(level avx2 sse4 scalar)
    add_test(NAME ${test}.${level} COMMAND ${test} --gtest_brief=1)
    set_tests_properties(${test}.${level} PROPERTIES
      ENVIRONMENT YOSO_SIMD=${level} TIMEOUT 1800
      SKIP_REGULAR_EXPRESSION "YOSO_SIMD: is ${level}, expected one of")
  endforeach()
endfunction()

# The same test with the GPU as the backend (backend_testing.h): one ctest case, label cuda.
function(yoso_add_cuda_test name)
  if(NOT YOSO_DEVELOPER)
    return()
  endif()
  add_executable(${name}_cuda_test ${name}_test.cc)
  target_compile_definitions(${name}_cuda_test PRIVATE YOSO_TEST_CUDA)
  target_link_libraries(${name}_cuda_test PRIVATE yoso::ops yoso_options GTest::gmock
                                                  GTest::gtest_main)
  add_test(NAME ${name}_cuda_test COMMAND ${name}_cuda_test --gtest_brief=1)
  set_tests_properties(${name}_cuda_test PROPERTIES
    LABELS cuda TIMEOUT 1800 SKIP_REGULAR_EXPRESSION "no GPU to test on")
endfunction()
