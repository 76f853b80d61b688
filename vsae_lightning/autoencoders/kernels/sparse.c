/* Selection and sparse products on a CPU, where PyTorch has none that are as fast. Float32, contiguous rows. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 8
#define PARALLEL_FROM 65536 /* numbers: threads that wait for each other cost more than fewer take */

/* Integers in the order of the scores: their largest is found many at a time. What is not a number must show, and is
   the largest, as in torch.topk. */
static inline int32_t key_of(float score, int magnitude)
{
    int32_t bits;
    memcpy(&bits, &score, sizeof bits);
    int32_t size = bits & INT32_MAX;
    int32_t key = magnitude ? size : bits ^ ((bits >> 31) & INT32_MAX);
    return size > 0x7f800000 ? INT32_MAX : key;
}

/* The k-th largest of n values, which are put into another order. */
static int32_t kth_largest(int32_t *values, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1, wanted = k - 1;
    while (low < high) {
        int32_t pivot = values[(low + high) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i <= j) {
                int32_t swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (wanted <= j)
            high = j;
        else if (wanted >= i)
            low = i;
        else
            break;
    }
    return values[wanted];
}

/* Brings `values` and `indices`, the largest of a row so far, `kept` of them, up to date with `width` latents more, from
   number `first` on. A key that counts is above the smallest kept, if there are k; else it is at least the k-th largest
   of the maxima of its blocks: few keys are. */
static void update_row(const float *scores, const float *bias, int64_t first, int64_t width, int64_t k, int64_t kept,
                       int magnitude, int32_t *scratch, float *values, int64_t *indices)
{
    int32_t *keys = scratch, *maxima = keys + width, *places = maxima + width, *pool = places + width;
    int64_t blocks = width / BLOCK, rest = blocks * BLOCK, found = 0;
    if (bias)
        for (int64_t i = 0; i < width; i++)
            keys[i] = key_of(scores[i] + bias[i], magnitude);
    else
        for (int64_t i = 0; i < width; i++)
            keys[i] = key_of(scores[i], magnitude);
    for (int64_t block = 0; block < blocks; block++) {
        const int32_t *own = keys + block * BLOCK;
        int32_t largest = INT32_MIN;
#pragma omp simd reduction(max : largest)
        for (int i = 0; i < BLOCK; i++)
            largest = own[i] > largest ? own[i] : largest;
        maxima[block] = largest;
    }
    int32_t floor = INT32_MIN;
    for (int64_t i = 0; i < kept; i++)
        pool[i] = key_of(values[i], magnitude);
    if (kept == k) {
        floor = INT32_MAX;
        for (int64_t i = 0; i < kept; i++)
            floor = pool[i] < floor ? pool[i] : floor;
        if (floor == INT32_MAX)
            return;
        floor++; /* of equal scores the first win */
    } else if (blocks >= k) {
        memcpy(places, maxima, blocks * sizeof(int32_t));
        floor = kth_largest(places, blocks, k);
    }
    for (int64_t block = 0; block < blocks; block++) {
        if (maxima[block] < floor)
            continue;
        for (int64_t i = block * BLOCK; i < (block + 1) * BLOCK; i++)
            if (keys[i] >= floor)
                places[found++] = (int32_t)i;
    }
    for (int64_t i = rest; i < width; i++)
        if (keys[i] >= floor)
            places[found++] = (int32_t)i;
    if (found == 0)
        return;
    int32_t smallest = INT32_MIN;
    int64_t equal = k, now = 0;
    for (int64_t i = 0; i < found; i++)
        pool[kept + i] = keys[places[i]];
    if (kept + found > k) {
        smallest = kth_largest(pool, kept + found, k);
        for (int64_t i = 0; i < kept + found; i++)
            equal -= pool[i] > smallest;
    }
    for (int64_t i = 0; i < kept; i++) {
        int32_t key = key_of(values[i], magnitude);
        if (key > smallest || (key == smallest && equal-- > 0)) {
            values[now] = values[i];
            indices[now++] = indices[i];
        }
    }
    for (int64_t i = 0; i < found && now < k; i++) {
        int64_t place = places[i];
        if (keys[place] > smallest || (keys[place] == smallest && equal-- > 0)) {
            values[now] = bias ? scores[place] + bias[place] : scores[place];
            indices[now++] = first + place;
        }
    }
}

/* Of each row, the k largest (or all, if they are fewer) of the latents before `first`, which `values` and `indices`
   hold, and of `width` more. Indices ascend within a row. `bias` may be NULL. Returns 0, or 1 where there is no memory. */
int topk_update(const float *scores, const float *bias, int64_t rows, int64_t first, int64_t width, int64_t k,
                int magnitude, float *values, int64_t *indices)
{
    int failed = 0;
#pragma omp parallel if (rows * width > PARALLEL_FROM)
    {
        int32_t *scratch = malloc((4 * width + k) * sizeof(int32_t));
        if (!scratch) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++)
            if (scratch)
                update_row(scores + row * width, bias, first, width, k, first < k ? first : k, magnitude, scratch,
                           values + row * k, indices + row * k);
        free(scratch);
    }
    return failed;
}

/* A stable counting sort: `order` lists the entries of `indices` latent by latent, and those of latent j start at
   `starts[j]`. Returns 0, or 1 where an index is not in [0, width). */
int order_by_latent(const int64_t *indices, int64_t entries, int64_t width, int64_t *order, int64_t *starts)
{
    memset(starts, 0, (width + 1) * sizeof(int64_t));
    for (int64_t i = 0; i < entries; i++) {
        if (indices[i] < 0 || indices[i] >= width)
            return 1;
        starts[indices[i] + 1]++;
    }
    for (int64_t j = 0; j < width; j++)
        starts[j + 1] += starts[j];
    for (int64_t i = 0; i < entries; i++)
        order[starts[indices[i]]++] = i;
    for (int64_t j = width; j > 0; j--)
        starts[j] = starts[j - 1];
    starts[0] = 0;
    return 0;
}

/* products[b, i] = <g[b], W[indices[b, i]]> */
void dot_at(const float *g, const float *W, const int64_t *indices, int64_t rows, int64_t k, int64_t d_in,
            float *products)
{
#pragma omp parallel for schedule(static) if (rows * k * d_in > PARALLEL_FROM)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = row * k; i < (row + 1) * k; i++) {
            const float *one = g + row * d_in, *other = W + indices[i] * d_in;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < d_in; c++)
                sum += one[c] * other[c];
            products[i] = sum;
        }
}

/* gradient[j] = sum of values[e] x[e / k] over the entries e of latent j, which `order` and `starts` list. */
void weight_gradient(const float *values, const int64_t *order, const int64_t *starts, const float *x, int64_t k,
                     int64_t d_in, int64_t d_sae, float *gradient)
{
#pragma omp parallel for schedule(dynamic, 64) if (starts[d_sae] * d_in > PARALLEL_FROM)
    for (int64_t j = 0; j < d_sae; j++) {
        float *own = gradient + j * d_in;
        int64_t entry = starts[j], stop = starts[j + 1];
        memset(own, 0, d_in * sizeof(float));
        for (; entry + 4 <= stop; entry += 4) { /* four at a time: a quarter of the passes over the sum */
            const int64_t *e = order + entry;
            const float *x0 = x + e[0] / k * d_in, *x1 = x + e[1] / k * d_in;
            const float *x2 = x + e[2] / k * d_in, *x3 = x + e[3] / k * d_in;
            float v0 = values[e[0]], v1 = values[e[1]], v2 = values[e[2]], v3 = values[e[3]];
#pragma omp simd
            for (int64_t c = 0; c < d_in; c++)
                own[c] += v0 * x0[c] + v1 * x1[c] + v2 * x2[c] + v3 * x3[c];
        }
        for (; entry < stop; entry++) {
            const float *one = x + order[entry] / k * d_in;
            float value = values[order[entry]];
#pragma omp simd
            for (int64_t c = 0; c < d_in; c++)
                own[c] += value * one[c];
        }
    }
}
