set(CMAKE_C_FLAGS "${CMAKE_C_FLAGS} -O1")
set(CMAKE_CXX_FLAGS "${CMAKE_CXX_FLAGS} -O1 -fno-exceptions")
