/* safetensors.h - weights as one file that PyTorch and Hugging Face read: 8 bytes length of the header (little-endian),
 * a JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes back to back, f32 little-endian. Written
 * in the order of the parameter table, the data at a multiple of 64 bytes. Read strictly: a header of at most 1 MB
 * without duplicate keys, exactly the table's names, shapes and dtype F32, no gap, no overlap, no byte over, every
 * number finite. */
#ifndef OC_NN_SAFETENSORS_H
#define OC_NN_SAFETENSORS_H

#include "base/hash.h"
#include "nn/shape.h"

enum { OC_SAFETENSORS_HEADER_MAX = 1000000 };

OC_MUST oc_safetensors_write(const char *path, const oc_parameters *p, const float *flat, uint64_t *bytes,
                             oc_hash *hash);
/* data: the whole file; name opens messages; flat [p->total] is filled (gaps of alignment are left alone). OC_EDATA. */
OC_MUST oc_safetensors_read(const unsigned char *data, size_t bytes, const char *name, const oc_parameters *p,
                            float *flat);

#endif
