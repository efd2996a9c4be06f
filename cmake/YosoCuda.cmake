# nvcc, and the architectures that GPU code is built for (the preset gpus names all).
set(YOSO_CUDA_ARCHITECTURES "" CACHE STRING
    "CMake's list of architectures; empty: of this machine's GPUs, or sm_90a where it has none")
enable_language(CUDA)
set(architectures "${YOSO_CUDA_ARCHITECTURES}")
if(architectures STREQUAL "")
  # sm_90a is sm_90 with what later GPUs do not have.
  string(REPLACE "90-real" "90a-real" architectures "${CMAKE_CUDA_ARCHITECTURES_NATIVE}")
endif()
if(NOT architectures MATCHES "^[0-9a]")  # CMake 4 says in words that there is no GPU
  set(architectures 90a-real)
endif()
set(CMAKE_CUDA_ARCHITECTURES ${architectures})
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)
  message(FATAL_ERROR "nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, expected 13.0 or newer; "
                      "-DYOSO_CUDA=OFF builds without a GPU")
endif()
if(architectures MATCHES "90a")
  # Nothing else tells host code that sm_90a is among them: has_wgmma() of yoso/cuda/wgmma.h.
  add_compile_definitions($<$<COMPILE_LANGUAGE:CUDA>:YOSO_SM90A>)
endif()
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # the one that torch has loaded
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc speaks C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
