// The model `equivariant` as one function: energies, their gradient by the edge vectors, forces and virials of atoms.
//
// Same numbers as ase_mlcalc.models.equivariant followed by ase_mlcalc.potential.derive, which are the reference; names
// are those of ase_mlcalc.nn.equivariant.  What makes it fast:
//
// - atoms go through all layers in blocks of a few, whose arrays stay in the cache; the few arrays that have a row for
//   every atom are what neighbours read, and what the gradient needs again;
// - messages are gathered and never scattered: each atom sums what its own edges bring.  On the way back it sums what
//   it was given along the same edges, since edge i -> j has a twin j -> i of the same length in the opposite
//   direction, and harmonics of degree l turn around by the factor (-1)^l;
// - products of irreps are straight code over the couplings that are not zero, which `couplings.h` holds, generated
//   for the model's l_max.
//
// Arrays of irreps of a block have the shape (component, atom, channel), those that neighbours read (atom, part,
// component, lane): V is a vector of as many lanes as the processor handles at once.
//
// Defined by the compiler's options: REAL, L_MAX, N_RADIAL, FEATURES, EDGE_FEATURES, VECTOR_BYTES.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
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
constexpr int ATOMS_AT_ONCE = 16;
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

#include "couplings.h"

constexpr int degree(int k) {
    int l = 0;
    while ((l + 1) * (l + 1) <= k) ++l;
    return l;
}

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

// Numbers of a layer that its gradient needs, for each atom.
template <int LO> struct Sizes {
    static constexpr int OUT = (LO + 1) * (LO + 1);
    static constexpr int KEPT = (2 * K + OUT + 1 + (LO + 1)) * C;  // both factors, output of the product, hidden, gates
};

template <int LO> struct AtomBlock {
    static constexpr int OUT = Sizes<LO>::OUT;
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

    struct Kept {
        REAL *factors, *x, *hidden, *gates;
        Kept(REAL *at, int n)
            : factors(at), x(at + ptrdiff_t(2 * K) * n * C), hidden(x + ptrdiff_t(OUT) * n * C),
              gates(hidden + ptrdiff_t(n) * C) {}
    };

    // x (K, n, C) to out (OUT, n, C); coupled is room for N_COUPLED * n * C
    void forward(int n, const REAL *x, Kept kept, REAL *out, REAL *coupled) const {
        mix(n, L, x, C, factors, kept.factors, 2 * C);
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; c += LANES)
                couple<LO>(kept.factors + i * 2 * C + c, ptrdiff_t(n) * 2 * C, C, coupled + c, n, i);
        const REAL *of_degree = coupled;
        for (int l = 0; l <= LO; ++l) {
            const int rows = (2 * l + 1) * n, depth = N_PATHS[l] * C;
            multiply(rows, of_degree, depth, product[l], kept.x + ptrdiff_t(l) * l * n * C, C);
            of_degree += ptrdiff_t(rows) * depth;
        }
        for (ptrdiff_t i = 0; i < ptrdiff_t(OUT) * n * C; i += LANES)
            store(kept.x + i, load(x + i) + REAL(0.5) * load(kept.x + i));
        multiply(n, kept.x, C, hidden, kept.hidden, C);
        REAL active[ATOMS_AT_ONCE * C];
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; ++c) {
                const REAL z = kept.hidden[i * C + c] += hidden_bias[c];
                active[i * C + c] = z / (1 + std::exp(-z));
            }
        multiply(n, active, C, gates, kept.gates, (LO + 1) * C);
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < (LO + 1) * C; ++c) kept.gates[i * (LO + 1) * C + c] += gates_bias[c];
        for (int k = 0; k < OUT; ++k)
            for (int i = 0; i < n; ++i)
                for (int c = 0; c < C; c += LANES) {
                    const V gate = load(kept.gates + (i * (LO + 1) + degree(k)) * C + c);
                    const V here = load(kept.x + (k * n + i) * C + c);
                    store(out + (k * n + i) * C + c, k == 0 ? here + gate : here + here * gate);
                }
    }

    // slope (OUT, n, C) of the output to slope_x (K, n, C); slope is overwritten
    void backward(int n, Kept kept, REAL *slope, REAL *slope_x, REAL *coupled, REAL *slope_factors) const {
        REAL of_gates[ATOMS_AT_ONCE * (LO + 1) * C], of_hidden[ATOMS_AT_ONCE * C];
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; c += LANES) {
                V of_gate[LO + 1] = {};
                of_gate[0] = load(slope + i * C + c);
                for (int k = 1; k < OUT; ++k) {
                    const V g = load(slope + (k * n + i) * C + c), x = load(kept.x + (k * n + i) * C + c);
                    of_gate[degree(k)] += g * x;
                    const V gate = load(kept.gates + (i * (LO + 1) + degree(k)) * C + c);
                    store(slope + (k * n + i) * C + c, g + g * gate);
                }
                for (int l = 0; l <= LO; ++l) store(of_gates + (i * (LO + 1) + l) * C + c, of_gate[l]);
            }
        multiply(n, of_gates, (LO + 1) * C, gates_t, of_hidden, C);
        for (int i = 0; i < n * C; ++i) {
            const REAL z = kept.hidden[i], s = 1 / (1 + std::exp(-z));
            of_hidden[i] *= s * (1 + z * (1 - s));
        }
        multiply<true>(n, of_hidden, C, hidden_t, slope, C);
        std::memcpy(slope_x, slope, sizeof(REAL) * OUT * n * C);
        std::memset(slope_x + ptrdiff_t(OUT) * n * C, 0, sizeof(REAL) * (K - OUT) * n * C);
        for (ptrdiff_t i = 0; i < ptrdiff_t(OUT) * n * C; i += LANES) store(slope + i, REAL(0.5) * load(slope + i));
        REAL *of_degree = coupled;
        for (int l = 0; l <= LO; ++l) {
            const int rows = (2 * l + 1) * n, depth = N_PATHS[l] * C;
            multiply(rows, slope + ptrdiff_t(l) * l * n * C, C, product_t[l], of_degree, depth);
            of_degree += ptrdiff_t(rows) * depth;
        }
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; c += LANES)
                couple_back<LO>(kept.factors + i * 2 * C + c, ptrdiff_t(n) * 2 * C, C, coupled + c, n, i,
                                slope_factors + i * 2 * C + c);
        mix<true>(n, L, slope_factors, 2 * C, factors_t, slope_x, C);
    }
};

struct Interaction {
    Matrix down[L + 1], down_t[L + 1], radial, up[L + 1], up_t[L + 1];

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
        const double b = norm * s_here * inverse, db = norm * (k + 1) * wave * c_here * inverse - b * inverse;
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

// From the derivatives by direction and length to that by the edge vector, added to g.
inline void add_gradient(const Edge &edge, const V *by_u, V by_d, REAL *g) {
    const REAL along = sum(by_d);
    REAL t[3];
    for (int a = 0; a < 3; ++a) t[a] = sum(by_u[a]);
    const REAL radial = along - (t[0] * edge.u[0] + t[1] * edge.u[1] + t[2] * edge.u[2]) * edge.inverse;
    for (int a = 0; a < 3; ++a) g[a] += radial * edge.u[a] + t[a] * edge.inverse;
}

// What the edges of one atom bring: m (PARTS, K, LANES) from h of the neighbours.
void gather_messages(int64_t n_edges, const Edge *edges, const int64_t *neighbors, const REAL *h,
                     const Matrix &radial, REAL *m) {
    alignas(64) REAL weights[EDGES_AT_ONCE * N_WEIGHTS];
    std::memset(m, 0, sizeof(REAL) * D * K);
    for (int64_t first = 0; first < n_edges; first += EDGES_AT_ONCE) {
        const int n = int(std::min<int64_t>(EDGES_AT_ONCE, n_edges - first));
        multiply(n, edges[first].radial, sizeof(Edge) / sizeof(REAL), radial, weights, N_WEIGHTS);
        for (int part = 0; part < PARTS; ++part) {
            V acc[K];
            for (int k = 0; k < K; ++k) acc[k] = load(m + (part * K + k) * LANES);
            for (int e = 0; e < n; ++e) {
                const REAL *of_j = h + neighbors[first + e] * (D * K) + part * K * LANES;
                const REAL *w = weights + e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                const REAL *y = edges[first + e].harmonics;
                const V h0 = load(of_j);
                acc[0] += load(w) * h0;
                for (int l = 1; l <= L; ++l) {
                    const V place = load(w + l * LANES) * h0, turn = load(w + (L + l) * LANES);
                    for (int k = l * l; k < (l + 1) * (l + 1); ++k)
                        acc[k] += y[k] * place + turn * load(of_j + k * LANES);
                }
            }
            for (int k = 0; k < K; ++k) store(m + (part * K + k) * LANES, acc[k]);
        }
    }
}

// The way back: slope_h (PARTS, K, LANES) of the atom's own features from the slopes of its neighbours' messages, and
// the gradient of each edge.
void gather_slopes(int64_t n_edges, const Edge *edges, const int64_t *neighbors, const REAL *h, const REAL *slope_m,
                   const REAL *slope_own, const Matrix &radial, REAL *slope_h, REAL *g) {
    alignas(64) REAL weights[EDGES_AT_ONCE * N_WEIGHTS], by_d[EDGES_AT_ONCE * N_WEIGHTS];
    constexpr ptrdiff_t step = sizeof(Edge) / sizeof(REAL);
    std::memset(slope_h, 0, sizeof(REAL) * D * K);
    for (int64_t first = 0; first < n_edges; first += EDGES_AT_ONCE) {
        const int n = int(std::min<int64_t>(EDGES_AT_ONCE, n_edges - first));
        multiply(n, edges[first].radial, step, radial, weights, N_WEIGHTS);
        multiply(n, edges[first].slope, step, radial, by_d, N_WEIGHTS);
        for (int e = 0; e < n; ++e) {
            const Edge &edge = edges[first + e];
            V of_y[K] = {}, of_d = {};
            for (int part = 0; part < PARTS; ++part) {
                const REAL *of_j = h + neighbors[first + e] * (D * K) + part * K * LANES;
                const REAL *own = slope_own + part * K * LANES;
                const REAL *w = weights + e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                const REAL *dw = by_d + e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                const V h0 = load(of_j);
                of_d += load(dw) * (load(own) * h0);
                for (int l = 1; l <= L; ++l) {
                    const V place = load(w + l * LANES) * h0;
                    V of_place = {}, of_turn = {};
                    for (int k = l * l; k < (l + 1) * (l + 1); ++k) {
                        const V s = load(own + k * LANES);
                        of_place += s * edge.harmonics[k];
                        of_turn += s * load(of_j + k * LANES);
                        of_y[k] += s * place;
                    }
                    of_d += load(dw + l * LANES) * (of_place * h0) + load(dw + (L + l) * LANES) * of_turn;
                }
            }
            V of_u[3];
            harmonics_back(edge.u, edge.harmonics, of_y, of_u);
            add_gradient(edge, of_u, of_d, g + 3 * (first + e));
        }
        for (int part = 0; part < PARTS; ++part) {
            V acc[K];
            for (int k = 0; k < K; ++k) acc[k] = load(slope_h + (part * K + k) * LANES);
            for (int e = 0; e < n; ++e) {
                const REAL *of_j = slope_m + neighbors[first + e] * (D * K) + part * K * LANES;
                const REAL *w = weights + e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                const REAL *y = edges[first + e].harmonics;
                acc[0] += load(w) * load(of_j);
                for (int l = 1; l <= L; ++l) {
                    const V turn = load(w + (L + l) * LANES);
                    V along = {};
                    for (int k = l * l; k < (l + 1) * (l + 1); ++k) {
                        const V s = load(of_j + k * LANES);
                        along += y[k] * s;
                        acc[k] += turn * s;
                    }
                    const V place = load(w + l * LANES);
                    acc[0] += l % 2 ? -(place * along) : place * along;  // the twin edge points the other way
                }
            }
            for (int k = 0; k < K; ++k) store(slope_h + (part * K + k) * LANES, acc[k]);
        }
    }
}

// (component, atom, channel) of a block to what neighbours read, and back
void hand_out(int n, const REAL *x, REAL *of_atoms) {
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < K; ++k)
            for (int part = 0; part < PARTS; ++part)
                store(of_atoms + (ptrdiff_t(i) * PARTS + part) * K * LANES + k * LANES,
                      load(x + (ptrdiff_t(k) * n + i) * D + part * LANES));
}

void take_in(int n, const REAL *of_atoms, REAL factor, REAL *x) {
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < K; ++k)
            for (int part = 0; part < PARTS; ++part)
                store(x + (ptrdiff_t(k) * n + i) * D + part * LANES,
                      factor * load(of_atoms + (ptrdiff_t(i) * PARTS + part) * K * LANES + k * LANES));
}

// -------------------------------------------------------------------------------------------------------- the model

struct Room {  // of one thread, for the arrays of a block
    alignas(64) REAL density[K * ATOMS_AT_ONCE * C], x[K * ATOMS_AT_ONCE * C], slope[K * ATOMS_AT_ONCE * C];
    alignas(64) REAL factors[2 * K * ATOMS_AT_ONCE * C], coupled[N_COUPLED * ATOMS_AT_ONCE * C];
    alignas(64) REAL kept[Sizes<0>::KEPT * ATOMS_AT_ONCE], down[K * ATOMS_AT_ONCE * D], m[ATOMS_AT_ONCE * D * K];
    alignas(64) REAL hidden[ATOMS_AT_ONCE * C], active[ATOMS_AT_ONCE * C];
};

struct Structure {
    int64_t n_atoms, n_edges;
    const int64_t *species, *centers, *neighbors;
    const double *vectors;
};

struct Model {
    int n_species, n_interactions;
    double cutoff;
    REAL density_scale, message_scale;
    Matrix density[L + 1], density_t[L + 1];
    std::vector<REAL> embedding, gain;
    std::vector<AtomBlock<L>> full;  // all layers but the last
    AtomBlock<0> last;
    std::vector<Interaction> interactions;
    Matrix readout, readout_t;
    std::vector<REAL> readout_bias, energy_weight;
    REAL energy_bias;

    // of the last call
    Array edges_, kept_, between_, h_, slope_m_, of_density_, g_;
    std::vector<int64_t> first_edge_;
    std::vector<int64_t> first_atom_;
    std::vector<std::unique_ptr<Room>> rooms_;
    std::vector<std::vector<double>> sums_;
    size_t atoms_ = 0;

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

    const Edge *edges(int64_t p) const { return reinterpret_cast<const Edge *>(edges_.at) + p; }
    int size(int64_t b) const { return int(first_atom_[b + 1] - first_atom_[b]); }
    REAL *h(int t) const { return h_.at + size_t(t) * atoms_ * D * K; }
    REAL *slope_m(int t) const { return slope_m_.at + size_t((t - 1) % 2) * atoms_ * D * K; }
    REAL *between(int64_t b) const { return between_.at + size_t(first_atom_[b]) * K * C; }
    typename AtomBlock<L>::Kept kept(int t, int64_t b) const {
        return {kept_.at + (size_t(t) * atoms_ + first_atom_[b]) * Sizes<L>::KEPT, size(b)};
    }

    void prepare(const Structure &s, int threads) {
        atoms_ = size_t(s.n_atoms);
        first_edge_.resize(atoms_ + 1);
        int64_t p = 0;
        for (int64_t i = 0; i <= s.n_atoms; ++i) {
            while (p < s.n_edges && s.centers[p] < i) ++p;
            first_edge_[i] = p;
        }
        // blocks of like size, as many for each thread
        int64_t blocks = (s.n_atoms + ATOMS_AT_ONCE - 1) / ATOMS_AT_ONCE;
        blocks = std::min(s.n_atoms, (blocks + threads - 1) / threads * threads);
        first_atom_.resize(blocks + 1);
        for (int64_t b = 0; b <= blocks; ++b) first_atom_[b] = b * s.n_atoms / blocks;
        edges_.resize(size_t(s.n_edges) * (sizeof(Edge) / sizeof(REAL)));
        g_.resize(size_t(s.n_edges) * 3);
        kept_.resize(size_t(n_interactions) * atoms_ * Sizes<L>::KEPT);
        between_.resize(n_interactions ? atoms_ * K * C : 0);
        h_.resize(size_t(n_interactions) * atoms_ * D * K);
        slope_m_.resize(std::min<size_t>(2, n_interactions) * atoms_ * D * K);
        while (int(rooms_.size()) < threads) rooms_.emplace_back(new Room);
        while (int(sums_.size()) < threads) sums_.emplace_back();
        for (auto &sums : sums_) sums.resize(9 * atoms_);
        of_density_.resize(atoms_ * K * n_species * N_RADIAL);
    }

    // Density of a block (K, n, n_species * N_RADIAL) into at, then mixed into x (K, n, C).
    void expand_block(const Structure &s, int64_t b, REAL *at, REAL *x) {
        const int n = size(b);
        const ptrdiff_t width = n_species * N_RADIAL;
        std::memset(at, 0, sizeof(REAL) * K * n * width);
        Edge *edges = reinterpret_cast<Edge *>(edges_.at);
        for (int i = 0; i < n; ++i) {
            const int64_t atom = first_atom_[b] + i;
            for (int64_t p = first_edge_[atom]; p < first_edge_[atom + 1]; ++p) {
                Edge &edge = edges[p];
                expand(s.vectors + 3 * p, cutoff, edge);
                REAL *to = at + i * width + s.species[s.neighbors[p]] * N_RADIAL;
                for (int k = 0; k < K; ++k)
                    for (int r = 0; r < N_RADIAL; ++r) to[k * n * width + r] += edge.harmonics[k] * edge.radial[r];
            }
        }
        mix(n, L, at, width, density, x, C);
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < n; ++i) {
                const int64_t z = s.species[first_atom_[b] + i];
                const REAL *of_gain = gain.data() + (z * (L + 1) + degree(k)) * C;
                REAL *here = x + (k * n + i) * C;
                for (int c = 0; c < C; ++c) here[c] *= density_scale * of_gain[c];
                if (k == 0)
                    for (int c = 0; c < C; ++c) here[c] += embedding[z * C + c];
            }
    }

    // slope (K, n, C) of the mixed density to the gradients of the block's edges
    void contract_block(const Structure &s, int64_t b, REAL *slope, REAL *at) {
        const int n = size(b);
        const ptrdiff_t width = n_species * N_RADIAL;
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < n; ++i) {
                const int64_t z = s.species[first_atom_[b] + i];
                const REAL *of_gain = gain.data() + (z * (L + 1) + degree(k)) * C;
                REAL *here = slope + (k * n + i) * C;
                for (int c = 0; c < C; ++c) here[c] *= density_scale * of_gain[c];
            }
        for (int l = 0; l <= L; ++l) {
            const ptrdiff_t row = ptrdiff_t(l) * l * n;
            plain(( 2 * l + 1) * n, slope + row * C, density_t[l], at + row * width, width);
        }
        for (int i = 0; i < n; ++i) {
            const int64_t atom = first_atom_[b] + i;
            for (int64_t p = first_edge_[atom]; p < first_edge_[atom + 1]; ++p) {
                const Edge &edge = *edges(p);
                const REAL *from = at + i * width + s.species[s.neighbors[p]] * N_RADIAL;
                V of_u[3] = {}, of_d = {};
                for (int q = 0; q < RADIAL_PARTS; ++q) {
                    V of_y[K], t[3], along = {};
                    const V radial = load(edge.radial + q * LANES);
                    for (int k = 0; k < K; ++k) {
                        of_y[k] = radial_part(from + k * n * width, q);
                        along += of_y[k] * edge.harmonics[k];
                    }
                    harmonics_back(edge.u, edge.harmonics, of_y, t);
                    for (int a = 0; a < 3; ++a) of_u[a] += t[a] * radial;
                    of_d += along * load(edge.slope + q * LANES);
                }
                add_gradient(edge, of_u, of_d, g_.at + 3 * p);
            }
        }
    }

    static V radial_part(const REAL *from, int q) {
        if constexpr (N_RADIAL % LANES == 0) return load(from + q * LANES);
        V value = {};
        for (int lane = 0; lane < LANES && q * LANES + lane < N_RADIAL; ++lane) value[lane] = from[q * LANES + lane];
        return value;
    }

    // a product whose width may be no whole number of vectors
    static void plain(int rows, const REAL *a, const Matrix &b, REAL *c, ptrdiff_t c_step) {
        if (b.width % LANES == 0) return multiply(rows, a, C, b, c, c_step);
        for (int row = 0; row < rows; ++row) {
            std::memset(c + row * c_step, 0, sizeof(REAL) * b.width);
            const REAL *panel = b.at.get();
            for (int first = 0; first < b.width; first += 2 * LANES) {
                const int last = std::min(first + 2 * LANES, b.width);
                for (int k = 0; k < b.depth; ++k)
                    for (int n = first; n < last; ++n) c[row * c_step + n] += a[row * C + k] * *panel++;
            }
        }
    }

    // Scalars x (n, C) to energies, and their slope in its place.
    void read_out(int n, REAL *x, double *energies, Room &room) const {
        multiply(n, x, C, readout, room.hidden, C);
        for (int i = 0; i < n; ++i) {
            REAL energy = energy_bias;
            for (int c = 0; c < C; ++c) {
                const REAL z = room.hidden[i * C + c] + readout_bias[c], s = 1 / (1 + std::exp(-z));
                energy += energy_weight[c] * z * s;
                room.active[i * C + c] = energy_weight[c] * s * (1 + z * (1 - s));
            }
            energies[i] = energy;
        }
        multiply(n, room.active, C, readout_t, x, C);
    }

    // Through the layers of one block up to where neighbours are needed next.
    void forward_block(const Structure &s, int t, int64_t b, Room &room, double *energies) {
        const int n = size(b);
        if (t == 0) {
            expand_block(s, b, of_density(b), room.density);
        } else {
            const Interaction &layer = interactions[t - 1];
            for (int i = 0; i < n; ++i) {
                const int64_t atom = first_atom_[b] + i, p = first_edge_[atom];
                gather_messages(first_edge_[atom + 1] - p, edges(p), s.neighbors + p, h(t - 1), layer.radial,
                                room.m + ptrdiff_t(i) * D * K);
            }
            take_in(n, room.m, message_scale, room.down);
            std::memcpy(room.density, between(b), sizeof(REAL) * K * n * C);
            mix<true>(n, L, room.down, D, layer.up, room.density, C);
        }
        if (t < n_interactions) {
            full[t].forward(n, room.density, kept(t, b), between(b), room.coupled);
            mix(n, L, between(b), C, interactions[t].down, room.down, D);
            hand_out(n, room.down, h(t) + first_atom_[b] * D * K);
        } else {
            typename AtomBlock<0>::Kept here(room.kept, n);
            last.forward(n, room.density, here, room.slope, room.coupled);
            read_out(n, room.slope, energies + first_atom_[b], room);
            last.backward(n, here, room.slope, room.x, room.coupled, room.factors);
            turn_back(s, t, b, room);
        }
    }

    // slope of the input of layer t, in room.x, to what the layer before needs
    void turn_back(const Structure &s, int t, int64_t b, Room &room) {
        const int n = size(b);
        if (t == 0) {
            contract_block(s, b, room.x, of_density(b));
            return;
        }
        mix(n, L, room.x, C, interactions[t - 1].up_t, room.down, D);
        for (ptrdiff_t i = 0; i < ptrdiff_t(K) * n * D; i += LANES)
            store(room.down + i, message_scale * load(room.down + i));
        hand_out(n, room.down, slope_m(t) + first_atom_[b] * D * K);
        std::memcpy(between(b), room.x, sizeof(REAL) * K * n * C);
    }

    void backward_block(const Structure &s, int t, int64_t b, Room &room) {
        const int n = size(b);
        const Interaction &layer = interactions[t - 1];
        for (int i = 0; i < n; ++i) {
            const int64_t atom = first_atom_[b] + i, p = first_edge_[atom];
            gather_slopes(first_edge_[atom + 1] - p, edges(p), s.neighbors + p, h(t - 1), slope_m(t),
                          slope_m(t) + atom * D * K, layer.radial, room.m + ptrdiff_t(i) * D * K, g_.at + 3 * p);
        }
        take_in(n, room.m, 1, room.down);
        std::memcpy(room.slope, between(b), sizeof(REAL) * K * n * C);
        mix<true>(n, L, room.down, D, layer.down_t, room.slope, C);
        full[t - 1].backward(n, kept(t - 1, b), room.slope, room.x, room.coupled, room.factors);
        turn_back(s, t - 1, b, room);
    }

    REAL *of_density(int64_t b) { return of_density_.at + size_t(first_atom_[b]) * K * n_species * N_RADIAL; }

    void evaluate(const Structure &s, int threads, double *energies, double *g, double *forces, double *virials) {
        prepare(s, threads);
        const int64_t blocks = int64_t(first_atom_.size()) - 1;
#pragma omp parallel num_threads(threads)
        {
#ifdef _OPENMP
            const int me = omp_get_thread_num(), team = omp_get_num_threads();
#else
            const int me = 0, team = 1;
#endif
            Room &room = *rooms_[me];
            const int64_t e0 = me * s.n_edges / team, e1 = (me + 1) * s.n_edges / team;
            if (s.n_edges) std::memset(g_.at + 3 * e0, 0, sizeof(REAL) * 3 * (e1 - e0));
#pragma omp barrier
            for (int t = 0; t <= n_interactions; ++t) {
#pragma omp for schedule(dynamic)
                for (int64_t b = 0; b < blocks; ++b) forward_block(s, t, b, room, energies);
            }
            for (int t = n_interactions; t > 0; --t) {
#pragma omp for schedule(dynamic)
                for (int64_t b = 0; b < blocks; ++b) backward_block(s, t, b, room);
            }
            std::vector<double> &mine = sums_[me];
            std::fill(mine.begin(), mine.end(), 0.0);
            for (int64_t p = e0; p < e1; ++p) add_mechanics(s, p, mine.data());
            if (g)
                for (int64_t q = 3 * e0; q < 3 * e1; ++q) g[q] = g_.at[q];
#pragma omp barrier
            const int64_t a0 = me * s.n_atoms / team, a1 = (me + 1) * s.n_atoms / team;
            for (int64_t i = a0; i < a1; ++i)
                for (int q = 0; q < 9; ++q) {
                    double total = 0;
                    for (int other = 0; other < team; ++other) total += sums_[other][9 * i + q];
                    (q < 3 ? forces[3 * i + q] : virials[6 * i + q - 3]) = total;
                }
        }
    }

    // Forces, and half of the symmetric virial of the edge to each of its ends: potential.edge_mechanics
    void add_mechanics(const Structure &s, int64_t p, double *sums) const {
        const double *r = s.vectors + 3 * p;
        const double g[3] = {g_.at[3 * p], g_.at[3 * p + 1], g_.at[3 * p + 2]};
        double *i = sums + 9 * s.centers[p], *j = sums + 9 * s.neighbors[p];
        const double w[6] = {0.5 * r[0] * g[0], 0.5 * r[1] * g[1], 0.5 * r[2] * g[2],
                             0.25 * (r[1] * g[2] + r[2] * g[1]), 0.25 * (r[0] * g[2] + r[2] * g[0]),
                             0.25 * (r[0] * g[1] + r[1] * g[0])};
        for (int a = 0; a < 3; ++a) {
            i[a] += g[a];
            j[a] -= g[a];
        }
        for (int q = 0; q < 6; ++q) {
            i[3 + q] += w[q];
            j[3 + q] += w[q];
        }
    }
};

}  // namespace

extern "C" {

// Weights come one after the other in the order in which Model::read takes them.
void *equivariant_create(int n_species, int n_interactions, double cutoff, double density_scale, double message_scale,
                         const REAL *weights) {
    try {
        auto model = std::make_unique<Model>();
        model->n_species = n_species;
        model->n_interactions = n_interactions;
        model->cutoff = cutoff;
        model->density_scale = REAL(density_scale);
        model->message_scale = REAL(message_scale);
        model->read(Reader(weights));
        return model.release();
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void equivariant_destroy(void *model) { delete static_cast<Model *>(model); }

// Energies (n_atoms,), gradients g (n_edges, 3) unless null, forces (n_atoms, 3), virials (n_atoms, 6) in Voigt order,
// all in the unit of the model.  Edges are sorted by centre, and each has its twin.  1: there is not enough memory.
int equivariant_evaluate(void *model, int64_t n_atoms, int64_t n_edges, const int64_t *species, const int64_t *centers,
                         const int64_t *neighbors, const double *vectors, int threads, double *energies, double *g,
                         double *forces, double *virials) {
    try {
        const Structure s{n_atoms, n_edges, species, centers, neighbors, vectors};
        static_cast<Model *>(model)->evaluate(s, threads, energies, g, forces, virials);
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
}
