# LibTorch from the PyPI wheel `torch`, linked directly: find_package(Torch) of the wheel needs a
# CUDA toolkit at configure time, these libraries do not.
#   yoso::torch_abi  headers and libraries for code on the stable ABI
#   yoso::libtorch   the whole C++ API; it is in libtorch_cpu.so (libtorch.so would pull in CUDA)
file(GLOB YOSO_TORCH_WHEELS ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
set(YOSO_TORCH_DIR "${YOSO_TORCH_WHEELS}" CACHE PATH "Folder `torch` of an unpacked PyTorch 2.11 wheel")
if(NOT EXISTS ${YOSO_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "YOSO_TORCH_DIR is '${YOSO_TORCH_DIR}', expected the folder `torch` of an "
                      "installed PyTorch wheel; tools/setup installs one, or pass -DYOSO_TORCH=OFF")
endif()
file(GLOB YOSO_NVIDIA_LIBS ${YOSO_TORCH_DIR}/../nvidia/*/lib)

add_library(yoso_torch_abi INTERFACE)
add_library(yoso::torch_abi ALIAS yoso_torch_abi)
target_include_directories(yoso_torch_abi SYSTEM INTERFACE ${YOSO_TORCH_DIR}/include)
target_link_libraries(yoso_torch_abi INTERFACE ${YOSO_TORCH_DIR}/lib/libtorch_cpu.so
                                               ${YOSO_TORCH_DIR}/lib/libc10.so)
target_link_options(yoso_torch_abi INTERFACE "LINKER:--allow-shlib-undefined")

add_library(yoso_libtorch INTERFACE)
add_library(yoso::libtorch ALIAS yoso_libtorch)
target_include_directories(yoso_libtorch SYSTEM INTERFACE
  ${YOSO_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(yoso_libtorch INTERFACE yoso_torch_abi)
