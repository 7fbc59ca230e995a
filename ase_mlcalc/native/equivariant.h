// What the kernels for the model `equivariant` share: its weights, products of matrices, and edges.
//
// Defined by the compiler's options: REAL, L_MAX, N_RADIAL, FEATURES, EDGE_FEATURES, VECTOR_BYTES.

#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int LANES = VECTOR_BYTES / sizeof(REAL);
constexpr int L = L_MAX;
constexpr int K = (L + 1) * (L + 1);
constexpr int C = FEATURES;
constexpr int D = EDGE_FEATURES;
constexpr int N_WEIGHTS = (2 * L + 1) * D;                                // radial weights of an edge
constexpr int PARTS = D / LANES;                                          // of the channels of messages
constexpr int RADIAL = (N_RADIAL + LANES - 1) / LANES * LANES;            // with zeros at the end
constexpr int RADIAL_PARTS = RADIAL / LANES;
constexpr int ROWS = VECTOR_BYTES == 64 ? 12 : 6;                         // of a tile of a matrix product
constexpr int EDGES_AT_ONCE = 16;
static_assert(C % LANES == 0 && D % LANES == 0, "channels come in whole vectors");

typedef REAL V __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL Loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

inline V load(const REAL *p) { return *reinterpret_cast<const Loose *>(p); }
inline void store(REAL *p, V v) { *reinterpret_cast<Loose *>(p) = v; }
inline V all(REAL value) { return value - V{}; }

inline REAL sum(V v) {
    REAL total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += v[lane];
    return total;
}

inline V smaller(V a, V b) { return a < b ? a : b; }
inline V larger(V a, V b) { return a > b ? a : b; }

#include "couplings.h"
#include "radial.h"

constexpr int degree(int k) {
    int l = 0;
    while ((l + 1) * (l + 1) <= k) ++l;
    return l;
}

// exp(x): 2^n times the series of the rest, which is within +-ln(2) / 2
inline V exponential(V x) {
    typedef typename std::conditional<sizeof(REAL) == 4, int32_t, int64_t>::type Bits;
    typedef Bits Integers __attribute__((vector_size(VECTOR_BYTES)));
    constexpr bool SHORT = sizeof(REAL) == 4;
    constexpr REAL LIMIT = SHORT ? REAL(87) : REAL(700);
    x = smaller(larger(x, all(-LIMIT)), all(LIMIT));
    constexpr REAL HIGH = SHORT ? REAL(0.693359375) : REAL(0.693145751953125);
    constexpr REAL LOW = SHORT ? REAL(-2.12194440054690583e-4) : REAL(1.42860682030941723e-6);
    const V turns = x * REAL(1.4426950408889634074);
    const Integers n = __builtin_convertvector(turns + (turns < 0 ? all(-0.5) : all(0.5)), Integers);
    const V whole = __builtin_convertvector(n, V);
    const V r = (x - whole * HIGH) - whole * LOW;
    constexpr int TERMS = SHORT ? 7 : 13;
    V series = all(1);
    for (int k = TERMS; k > 0; --k) series = 1 + series * r * (REAL(1) / REAL(k));
    constexpr int BIAS = SHORT ? 127 : 1023, MANTISSA = SHORT ? 23 : 52;
    const Integers power = (n + Bits(BIAS)) << MANTISSA;
    V factor;
    std::memcpy(&factor, &power, sizeof factor);
    return series * factor;
}

inline V sigmoid(V z) { return 1 / (1 + exponential(-z)); }

// ---------------------------------------------------------------------------------------------- memory and matrices

struct Array {  // grows, and keeps its memory
    REAL *at = nullptr;
    size_t room = 0;
    Array() = default;
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;
    ~Array() { std::free(at); }
    void resize(size_t n) {
        if (n <= room) return;
        std::free(at);
        at = nullptr;
        room = 0;
        const size_t bytes = (n * sizeof(REAL) + 4095) / 4096 * 4096;
        at = static_cast<REAL *>(std::aligned_alloc(4096, bytes));
        if (!at) throw std::bad_alloc();
        room = n;
    }
};

// A matrix (depth, width) cut into panels of two vectors, the order in which products read it.
struct Matrix {
    int depth = 0, width = 0;
    std::unique_ptr<REAL[]> at;

    template <class Element> void fill(int depth_, int width_, Element element) {
        depth = depth_;
        width = width_;
        at.reset(new REAL[size_t(depth) * width]);
        REAL *next = at.get();
        for (int first = 0; first < width; first += 2 * LANES) {
            const int last = std::min(first + 2 * LANES, width);
            for (int k = 0; k < depth; ++k)
                for (int n = first; n < last; ++n) *next++ = element(k, n);
        }
    }
};

template <int M, int VECTORS, bool ADD>
inline void tile(int depth, const REAL *a, ptrdiff_t a_step, const REAL *panel, REAL *c, ptrdiff_t c_step) {
    V acc[M][VECTORS];
    for (int m = 0; m < M; ++m)
        for (int v = 0; v < VECTORS; ++v) acc[m][v] = ADD ? load(c + m * c_step + v * LANES) : V{};
    for (int k = 0; k < depth; ++k) {
        V b[VECTORS];
        for (int v = 0; v < VECTORS; ++v) b[v] = load(panel + (k * VECTORS + v) * LANES);
        for (int m = 0; m < M; ++m) {
            const V x = all(a[m * a_step + k]);
            for (int v = 0; v < VECTORS; ++v) acc[m][v] += x * b[v];
        }
    }
    for (int m = 0; m < M; ++m)
        for (int v = 0; v < VECTORS; ++v) store(c + m * c_step + v * LANES, acc[m][v]);
}

template <int M, int VECTORS, bool ADD>
inline void rest(int rows, int depth, const REAL *a, ptrdiff_t a_step, const REAL *panel, REAL *c, ptrdiff_t c_step) {
    if constexpr (M > 0) {
        if (rows == M)
            tile<M, VECTORS, ADD>(depth, a, a_step, panel, c, c_step);
        else
            rest<M - 1, VECTORS, ADD>(rows, depth, a, a_step, panel, c, c_step);
    }
}

template <int VECTORS, bool ADD>
void panel_product(int rows, int depth, const REAL *a, ptrdiff_t a_step, const REAL *panel, REAL *c, ptrdiff_t c_step) {
    int row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        tile<ROWS, VECTORS, ADD>(depth, a + row * a_step, a_step, panel, c + row * c_step, c_step);
    rest<ROWS - 1, VECTORS, ADD>(rows - row, depth, a + row * a_step, a_step, panel, c + row * c_step, c_step);
}

// c (rows, width) = a (rows, depth) b, or c += a b
template <bool ADD = false>
inline void multiply(int rows, const REAL *a, ptrdiff_t a_step, const Matrix &b, REAL *c, ptrdiff_t c_step) {
    const REAL *panel = b.at.get();
    for (int first = 0; first < b.width; first += 2 * LANES) {
        if (b.width - first >= 2 * LANES)
            panel_product<2, ADD>(rows, b.depth, a, a_step, panel, c + first, c_step);
        else
            panel_product<1, ADD>(rows, b.depth, a, a_step, panel, c + first, c_step);
        panel += size_t(b.depth) * std::min(2 * LANES, b.width - first);
    }
}

// The matrices of all degrees, each to its rows of (component, atom, channel).
template <bool ADD = false>
inline void mix(int n, int l_top, const REAL *a, ptrdiff_t a_step, const Matrix *of_degree, REAL *c, ptrdiff_t c_step) {
    for (int l = 0; l <= l_top; ++l) {
        const ptrdiff_t row = ptrdiff_t(l) * l * n;
        multiply<ADD>((2 * l + 1) * n, a + row * a_step, a_step, of_degree[l], c + row * c_step, c_step);
    }
}

// ------------------------------------------------------------------------------------------------------- the layers

class Reader {  // of one weight after the other
  public:
    explicit Reader(const REAL *at) : at_(at) {}
    const REAL *take(size_t n) {
        const REAL *here = at_;
        at_ += n;
        return here;
    }
    // (depth, width) as stored, and transposed
    void both(Matrix &m, Matrix &turned, int depth, int width) {
        const REAL *w = take(size_t(depth) * width);
        m.fill(depth, width, [=](int k, int n) { return w[size_t(k) * width + n]; });
        turned.fill(width, depth, [=](int k, int n) { return w[size_t(n) * width + k]; });
    }
    std::vector<REAL> vector(size_t n) {
        const REAL *w = take(n);
        return std::vector<REAL>(w, w + n);
    }

  private:
    const REAL *at_;
};

template <int LO> struct BlockWeights {
    Matrix factors[L + 1], factors_t[L + 1], product[LO + 1], product_t[LO + 1], hidden, hidden_t, gates, gates_t;
    std::vector<REAL> hidden_bias, gates_bias;

    void read(Reader &r) {
        for (int l = 0; l <= L; ++l) r.both(factors[l], factors_t[l], C, 2 * C);
        for (int l = 0; l <= LO; ++l) r.both(product[l], product_t[l], N_PATHS[l] * C, C);
        r.both(hidden_t, hidden, C, C);  // of torch's Linear: (out, in)
        hidden_bias = r.vector(C);
        r.both(gates_t, gates, (LO + 1) * C, C);
        gates_bias = r.vector((LO + 1) * C);
    }
};

struct InteractionWeights {
    Matrix down[L + 1], down_t[L + 1], radial, up[L + 1], up_t[L + 1];

    // place of the weight for a kind of message and a channel
    static constexpr int place(int kind, int channel) {
        return (channel / LANES * (2 * L + 1) + kind) * LANES + channel % LANES;
    }

    void read(Reader &r) {
        for (int l = 0; l <= L; ++l) r.both(down[l], down_t[l], C, D);
        const REAL *w = r.take(size_t(N_WEIGHTS) * N_RADIAL);  // of torch's Linear: (kind * D + channel, radial)
        radial.fill(N_RADIAL, N_WEIGHTS, [=](int k, int n) {
            const int part = n / ((2 * L + 1) * LANES), kind = n / LANES % (2 * L + 1), lane = n % LANES;
            return w[(kind * D + part * LANES + lane) * N_RADIAL + k];
        });
        for (int l = 0; l <= L; ++l) r.both(up[l], up_t[l], D, C);
    }
};

struct Weights {
    int n_species, n_interactions;
    double cutoff;
    REAL density_scale, message_scale;
    Matrix density[L + 1], density_t[L + 1];
    std::vector<REAL> embedding, gain;
    std::vector<BlockWeights<L>> full;  // of all layers but the last
    BlockWeights<0> last;
    std::vector<InteractionWeights> interactions;
    Matrix readout, readout_t;
    std::vector<REAL> readout_bias, energy_weight;
    REAL energy_bias;

    void prepare(int species, int layers, double cutoff_, double of_density, double of_messages, const REAL *numbers) {
        n_species = species;
        n_interactions = layers;
        cutoff = cutoff_;
        density_scale = REAL(of_density);
        message_scale = REAL(of_messages);
        read(Reader(numbers));
    }

    // Weights come one after the other in this order.
    void read(Reader r) {
        for (int l = 0; l <= L; ++l) r.both(density[l], density_t[l], n_species * N_RADIAL, C);
        embedding = r.vector(size_t(n_species) * C);
        gain = r.vector(size_t(n_species) * (L + 1) * C);
        full.resize(n_interactions);
        interactions.resize(n_interactions);
        for (int t = 0; t <= n_interactions; ++t) {
            if (t > 0) interactions[t - 1].read(r);
            if (t < n_interactions)
                full[t].read(r);
            else
                last.read(r);
        }
        r.both(readout_t, readout, C, C);
        readout_bias = r.vector(C);
        energy_weight = r.vector(C);
        energy_bias = *r.take(1);
    }
};

// -------------------------------------------------------------------------------------------------------- the edges

struct Edge {
    REAL radial[RADIAL], slope[RADIAL];  // functions of the length, and their derivatives
    REAL harmonics[K];
    REAL u[3], inverse;                  // direction and 1 / length
};

// sin(pi x) and cos(pi x) for 0 <= x <= 1 from their series about 1/2, where |pi (x - 1/2)| <= 1.58
inline void half_turn(double x, double &sine, double &cosine) {
    const double t = 3.14159265358979323846 * (x - 0.5), t2 = t * t;
    double c = 1, s = 1;
    for (int k = 22; k > 0; k -= 2) {
        c = 1 - c * t2 / (k * (k - 1));
        s = 1 - s * t2 / (k * (k + 1));
    }
    sine = c;
    cosine = -s * t;
}

// Bessel functions times the envelope with p = 6, as in ase_mlcalc.nn.radial
inline void expand(const double *r, double cutoff, Edge &edge) {
    const double d = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), inverse = 1 / d;
    const double x = std::min(d / cutoff, 1.0);
    for (int a = 0; a < 3; ++a) edge.u[a] = REAL(r[a] * inverse);
    edge.inverse = REAL(inverse);
    double sine, cosine;
    half_turn(x, sine, cosine);
    const double x2 = x * x, x5 = x2 * x2 * x, rest = 1 - x;
    const double u = d < cutoff ? 1 - x5 * x * (28 - 48 * x + 21 * x2) : 0.0;
    const double du = d < cutoff ? -168 * x5 * rest * rest / cutoff : 0.0;
    const double norm = std::sqrt(2 / cutoff), wave = 3.14159265358979323846 / cutoff;
    double s_here = sine, s_before = 0, c_here = cosine, c_before = 1;
    for (int k = 0; k < N_RADIAL; ++k) {
        const double height = norm * RADIAL_WEIGHTS[k];
        const double b = height * s_here * inverse, db = height * (k + 1) * wave * c_here * inverse - b * inverse;
        edge.radial[k] = REAL(b * u);
        edge.slope[k] = REAL(db * u + b * du);
        const double s_next = 2 * cosine * s_here - s_before, c_next = 2 * cosine * c_here - c_before;
        s_before = s_here;
        s_here = s_next;
        c_before = c_here;
        c_here = c_next;
    }
    for (int k = N_RADIAL; k < RADIAL; ++k) edge.radial[k] = edge.slope[k] = 0;
    harmonics(edge.u, edge.harmonics);
}

// -------------------------------------------------------------------------------------------------- atoms in blocks

struct Structure {
    int64_t n_atoms, n_edges, n_centers;  // only the first n_centers atoms have edges of their own, and results
    const int64_t *species, *centers, *neighbors;
    const double *vectors;
};

// Blocks of like size, as many for each thread, and the first edge of each atom.
struct Blocks {
    std::vector<int64_t> first_atom, first_edge;

    void divide(const Structure &s, int at_once, int threads) {
        first_edge.resize(size_t(s.n_centers) + 1);
        int64_t p = 0;
        for (int64_t i = 0; i <= s.n_centers; ++i) {
            while (p < s.n_edges && s.centers[p] < i) ++p;
            first_edge[i] = p;
        }
        int64_t blocks = (s.n_centers + at_once - 1) / at_once;
        blocks = std::min(s.n_centers, (blocks + threads - 1) / threads * threads);
        first_atom.resize(size_t(blocks) + 1);
        for (int64_t b = 0; b <= blocks; ++b) first_atom[b] = blocks ? b * s.n_centers / blocks : 0;
    }
    int64_t count() const { return int64_t(first_atom.size()) - 1; }
    int size(int64_t b) const { return int(first_atom[b + 1] - first_atom[b]); }
};

// n of the rows of each component of (component, row, channel) to what neighbours read; and back
inline void hand_out(int n, int rows, const REAL *x, REAL *of_atoms) {
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < K; ++k)
            for (int part = 0; part < PARTS; ++part)
                store(of_atoms + (ptrdiff_t(i) * PARTS + part) * K * LANES + k * LANES,
                      load(x + (ptrdiff_t(k) * rows + i) * D + part * LANES));
}

inline void take_in(int n, const REAL *of_atoms, REAL factor, REAL *x) {
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < K; ++k)
            for (int part = 0; part < PARTS; ++part)
                store(x + (ptrdiff_t(k) * n + i) * D + part * LANES,
                      factor * load(of_atoms + (ptrdiff_t(i) * PARTS + part) * K * LANES + k * LANES));
}

// Where threads wait for each other.  That of OpenMP keeps its core busy; where other programs want the core too, the
// thread that is waited for then does not get on.
class Barrier {
  public:
    void wait(int team) {
        if (team == 1) return;
        const int before = turn_.load(std::memory_order_acquire);
        if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == team) {
            waiting_.store(0, std::memory_order_relaxed);
            turn_.fetch_add(1, std::memory_order_release);
            return;
        }
        for (int tries = 0; turn_.load(std::memory_order_acquire) == before; ++tries)
            if (tries > PATIENCE) std::this_thread::yield();
    }

  private:
    static constexpr int PATIENCE = 4000;  // some ten microseconds
    std::atomic<int> waiting_{0}, turn_{0};
};

struct Team {  // a thread of a parallel region
#ifdef _OPENMP
    int me = omp_get_thread_num(), size = omp_get_num_threads();
#else
    int me = 0, size = 1;
#endif
    int64_t first(int64_t n) const { return me * n / size; }
    int64_t last(int64_t n) const { return (me + 1) * n / size; }
};

}  // namespace
