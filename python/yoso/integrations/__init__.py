"""YOSO attention inside other libraries: each module here needs the library that it is named for."""

# SPDX-License-Identifier: Apache-2.0
