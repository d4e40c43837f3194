/* onnx_proto.h - the generated messages of onnx.proto, included with their own warnings off. */
#ifndef OC_NN_ONNX_PROTO_H
#define OC_NN_ONNX_PROTO_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include "onnx.pb-c.h"
#pragma GCC diagnostic pop

#endif
