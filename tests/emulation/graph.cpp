/* graph.cpp - streams, events and recordings of the emulation. What a captured stream is given is a node that waits for
 * the stream's node before, and for those that events brought to it; other streams are drawn in by an event, as in
 * CUDA. A replay runs the nodes in an order drawn from OUTCRY_EMULATION_SEED among all that the events allow, so
 * unordered branches come in any order; and the shadow asks here whether two touches of the same bytes are ordered
 * (era_before): a missing event is found whatever order was drawn. Outside a capture all is done when a call returns,
 * and nothing of this is looked at. */
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>
#include "emulation/inside.cuh"

namespace
{
enum node_kind { KERNEL, LIBRARY, COPY, SET };
struct node {
    node_kind kind;
    std::string name;
    emulation::launch_shape shape; /* its name is that of this node */
    std::vector<unsigned char> packet;
    void (*run)(const void *);
    void *to;
    const void *from;
    size_t bytes;
    int value;
    cudaMemcpyKind way;
    std::vector<size_t> after;
    std::vector<bool> ancestors;
};
typedef std::vector<size_t> places; /* nodes that the next one waits for */
} // namespace

struct emulation_graph {
    std::vector<node> nodes;
};
struct emulation_stream {
    emulation_outside outside;             /* first: outside.h */
    std::shared_ptr<emulation_graph> into; /* while captured */
    bool origin;
    places last;
    std::atomic<int> residents; /* grids */
    int device;
};
struct emulation_event {
    uint64_t last_work;
    std::shared_ptr<emulation_graph> into;
    places last;
};

namespace emulation
{

static std::vector<emulation_stream *> streams;

/* ---------------------------------------------------------------- work from outside (outside.h) */
void work_count(cudaStream_t stream)
{
    static std::atomic<uint64_t> newest;
    if (stream) stream->outside.last = ++newest;
}

bool elsewhere(cudaStream_t stream)
{
    return stream && stream->device != current_device();
}

void work_waited(cudaStream_t stream)
{
    if (stream) stream->outside.last = 0;
}

bool outside_busy(cudaStream_t stream)
{
    return stream && (stream->residents > 0 || (stream->outside.busy && stream->outside.busy(stream->outside.context)));
}

void work_resident(cudaStream_t stream, int more)
{
    if (stream) stream->residents += more;
}

static bool behind_all(const emulation_outside *stream)
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    for (const emulation_stream *s : streams)
        if (&s->outside != stream && s->outside.last > stream->after) return false;
    return true;
}

/* ---------------------------------------------------------------- capture */

bool captured(cudaStream_t stream)
{
    return stream && stream->into;
}

static void keep(cudaStream_t s, node n)
{
    emulation_graph &g = *s->into;
    n.after = s->last;
    n.ancestors.assign(g.nodes.size(), false);
    for (const size_t a : n.after) {
        n.ancestors[a] = true;
        for (size_t i = 0; i < g.nodes[a].ancestors.size(); i++)
            if (g.nodes[a].ancestors[i]) n.ancestors[i] = true;
    }
    s->last = {g.nodes.size()};
    g.nodes.push_back(std::move(n));
}

bool capture_launch(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *))
{
    if (!captured(shape.stream)) return false;
    node n = {};
    const auto *at = static_cast<const unsigned char *>(packet);
    n.kind = KERNEL;
    n.name = shape.name;
    n.shape = shape;
    n.packet.assign(at, at + bytes);
    n.run = run;
    keep(shape.stream, std::move(n));
    return true;
}

bool capture_library(cudaStream_t stream, const char *name, const void *packet, size_t bytes, void (*run)(const void *))
{
    if (!captured(stream)) return false;
    node n = {};
    const auto *at = static_cast<const unsigned char *>(packet);
    n.kind = LIBRARY;
    n.name = name;
    n.packet.assign(at, at + bytes);
    n.run = run;
    keep(stream, std::move(n));
    return true;
}

bool capture_copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (!captured(stream)) return false;
    node n = {};
    n.kind = COPY;
    n.name = "a copy";
    n.to = to;
    n.from = from;
    n.bytes = bytes;
    n.way = kind;
    if ((kind == cudaMemcpyHostToDevice && !pinned(from, bytes)) ||
        (kind == cudaMemcpyDeviceToHost && !pinned(to, bytes)))
        finding(nullptr, "a recording holds a copy of %zu bytes whose host memory is not pinned", bytes);
    keep(stream, std::move(n));
    return true;
}

bool capture_set(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (!captured(stream)) return false;
    node n = {};
    n.kind = SET;
    n.name = "a memset";
    n.to = to;
    n.value = value;
    n.bytes = bytes;
    keep(stream, std::move(n));
    return true;
}

/* ---------------------------------------------------------------- replay */
static const emulation_graph *replayed;
static size_t current;
static std::vector<std::pair<uint32_t, size_t>> begun; /* first era of each node, in the order they ran */

/* The node that ran in an era of this replay. */
static size_t node_of(uint32_t then)
{
    const auto at = std::upper_bound(begun.begin(), begun.end(), std::make_pair(then, SIZE_MAX));
    return (at - 1)->second;
}

bool era_before(uint32_t then)
{
    if (!replayed || then < begun[0].first) return true;
    const size_t n = node_of(then);
    const std::vector<bool> &ancestors = replayed->nodes[current].ancestors;
    return n == current || (n < ancestors.size() && ancestors[n]);
}

const char *era_name(uint32_t then)
{
    return replayed->nodes[node_of(then)].name.c_str();
}

static std::vector<size_t> order_draw(const emulation_graph &g)
{
    std::vector<size_t> waits(g.nodes.size()), ready, order;
    std::vector<places> behind(g.nodes.size());
    random_seed();
    for (size_t i = 0; i < g.nodes.size(); i++) {
        waits[i] = g.nodes[i].after.size();
        for (const size_t a : g.nodes[i].after) behind[a].push_back(i);
        if (waits[i] == 0) ready.push_back(i);
    }
    while (!ready.empty()) {
        const size_t pick = random_below(static_cast<uint32_t>(ready.size())), n = ready[pick];
        ready[pick] = ready.back();
        ready.pop_back();
        order.push_back(n);
        for (const size_t i : behind[n])
            if (--waits[i] == 0) ready.push_back(i);
    }
    return order;
}

static cudaError_t node_run(const node &n)
{
    cudaError_t error = cudaSuccess;
    era++;
    begun.emplace_back(era, current);
    kernel_name = n.name.c_str();
    if (n.kind == KERNEL) {
        launch_shape shape = n.shape;
        shape.name = n.name.c_str();
        error = run_grid(shape, n.packet.data(), n.packet.size(), n.run);
    } else if (n.kind == LIBRARY) {
        n.run(n.packet.data());
    } else {
        if (n.kind == SET || n.way != cudaMemcpyDeviceToHost) shadow_copied(n.to, n.bytes, true);
        if (n.kind == COPY && n.way != cudaMemcpyHostToDevice) shadow_copied(n.from, n.bytes, false);
        if (n.kind == COPY)
            error = copy_now(n.to, n.from, n.bytes, n.way);
        else
            set_now(n.to, n.value, n.bytes);
    }
    era++;
    kernel_name = nullptr;
    return error;
}

static cudaError_t replay(const emulation_graph &g)
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    cudaError_t error = cudaSuccess;
    begun.clear();
    replayed = &g;
    for (const size_t n : order_draw(g)) {
        current = n;
        error = node_run(g.nodes[n]);
        if (error != cudaSuccess) break;
    }
    replayed = nullptr;
    return error;
}
} // namespace emulation

/* ---------------------------------------------------------------- streams and events */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    emulation::quiet_check("cudaStreamCreate");
    *out = new emulation_stream();
    (*out)->device = emulation::current_device();
    (*out)->outside.behind_all = emulation::behind_all;
    emulation::streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    emulation::quiet_check("cudaStreamDestroy");
    emulation::streams.erase(std::remove(emulation::streams.begin(), emulation::streams.end(), stream),
                             emulation::streams.end());
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = new emulation_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (emulation::elsewhere(stream)) return cudaErrorInvalidResourceHandle;
    event->into = stream ? stream->into : nullptr;
    event->last_work = stream ? stream->outside.last : 0;
    event->last = event->into ? stream->last : places();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (stream) stream->outside.after = std::max(stream->outside.after, event->last_work);
    if (!event->into) return emulation::captured(stream) ? cudaErrorStreamCaptureIsolation : cudaSuccess;
    if (emulation::captured(stream) && stream->into != event->into) return cudaErrorStreamCaptureIsolation;
    stream->into = event->into;
    for (const size_t n : event->last)
        if (std::find(stream->last.begin(), stream->last.end(), n) == stream->last.end()) stream->last.push_back(n);
    return cudaSuccess;
}

/* ---------------------------------------------------------------- recordings */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (!stream || stream->into) return cudaErrorInvalidValue;
    stream->into = std::make_shared<emulation_graph>();
    stream->origin = true;
    stream->last.clear();
    return cudaSuccess;
}

/* Every branch must have come back: what no later node of the origin waits for would be left running. */
static bool joined(const emulation_stream &origin)
{
    std::vector<bool> reached(origin.into->nodes.size(), false);
    for (const size_t n : origin.last) {
        reached[n] = true;
        for (size_t i = 0; i < n; i++)
            if (origin.into->nodes[n].ancestors[i]) reached[i] = true;
    }
    return std::find(reached.begin(), reached.end(), false) == reached.end();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    *out = nullptr;
    if (!emulation::captured(stream) || !stream->origin) return cudaErrorStreamCaptureUnmatched;
    const std::shared_ptr<emulation_graph> made = stream->into;
    const bool whole = joined(*stream);
    for (emulation_stream *s : emulation::streams)
        if (s->into == made) {
            s->into = nullptr;
            s->origin = false;
            s->last.clear();
        }
    if (!whole) return cudaErrorStreamCaptureUnjoined;
    *out = new emulation_graph(*made);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    emulation::quiet_check("cudaGraphInstantiate");
    *out = new emulation_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t work, cudaStream_t stream)
{
    if (emulation::captured(stream))
        return cudaErrorStreamCaptureUnsupported; /* a graph within a graph: not emulated */
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    if (emulation::elsewhere(stream)) return cudaErrorInvalidResourceHandle;
    outcry_emulation_counts.replays++;
    emulation::work_count(stream);
    return emulation::replay(*work);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t work)
{
    emulation::quiet_check("cudaGraphExecDestroy");
    delete work;
    return cudaSuccess;
}
