// What a loss needs to be lowered: gradients of the weights of the model `equivariant`.
//
// A loss knows its derivatives s_i by the energies of atoms and v_p by the gradients g_p = dE/dr_p of edges, E being the
// sum of the energies e_i.  Its derivatives by the weights w are then those of
//
//     sum_i s_i e_i(w)  +  sum_p v_p . dE(w)/dr_p ,
//
// and the second sum is the rate at which E changes when the edges move with velocity v.  So everything is computed
// twice, for itself and for how fast it changes (forward mode), and then taken back through all layers (reverse mode):
// the slopes of the plain energy, and how fast these change, started at s_i.  The gradient of a matrix between x and
// y is x^T (change of the slope of y) + (change of x)^T (slope of y).
//
// Arrays of a block have rows of values and behind them as many rows of changes, so that linear layers need not know.
// v is antisymmetric, v of j -> i is minus v of i -> j, as that of every loss of forces and stress.

#include "equivariant.h"

namespace {

constexpr int ATOMS_AT_ONCE = 8;
constexpr int MOST_ROWS = 2 * ATOMS_AT_ONCE;

// -------------------------------------------------------------------------------------------- gradients of matrices

struct Rows {  // of two arrays that belong together
    const REAL *a, *b;
    int count;
};

template <int M, int VECTORS>
inline void outer_tile(const Rows *rows, int parts, ptrdiff_t a_step, ptrdiff_t b_step, int k, int n, REAL *out,
                       ptrdiff_t step) {
    V acc[M][VECTORS];
    for (int m = 0; m < M; ++m)
        for (int v = 0; v < VECTORS; ++v) acc[m][v] = load(out + (k + m) * step + n + v * LANES);
    for (int part = 0; part < parts; ++part) {
        const REAL *a = rows[part].a + k, *b = rows[part].b + n;
        for (int row = 0; row < rows[part].count; ++row, a += a_step, b += b_step) {
            V right[VECTORS];
            for (int v = 0; v < VECTORS; ++v) right[v] = load(b + v * LANES);
            for (int m = 0; m < M; ++m) {
                const V left = all(a[m]);
                for (int v = 0; v < VECTORS; ++v) acc[m][v] += left * right[v];
            }
        }
    }
    for (int m = 0; m < M; ++m)
        for (int v = 0; v < VECTORS; ++v) store(out + (k + m) * step + n + v * LANES, acc[m][v]);
}

// out (depth, width) += a^T b over all rows
void add_outer(const Rows *rows, int parts, ptrdiff_t a_step, int depth, ptrdiff_t b_step, int width, REAL *out) {
    for (int n = 0; n < width; n += 2 * LANES) {
        const bool two = width - n >= 2 * LANES;
        int k = 0;
        for (; k + 6 <= depth; k += 6)
            two ? outer_tile<6, 2>(rows, parts, a_step, b_step, k, n, out, width)
                : outer_tile<6, 1>(rows, parts, a_step, b_step, k, n, out, width);
        for (; k < depth; ++k)
            two ? outer_tile<1, 2>(rows, parts, a_step, b_step, k, n, out, width)
                : outer_tile<1, 1>(rows, parts, a_step, b_step, k, n, out, width);
    }
}

// Of a matrix between a and b, arrays (component, value or change, atom, channel): values meet changes.
void add_slopes(int n, int components, const REAL *a, ptrdiff_t a_step, int depth, const REAL *b, ptrdiff_t b_step,
                int width, REAL *out) {
    Rows rows[2 * (2 * L + 1)];
    for (int m = 0; m < components; ++m)
        for (int half = 0; half < 2; ++half)
            rows[2 * m + half] = {a + (2 * m + half) * n * a_step, b + (2 * m + 1 - half) * n * b_step, n};
    add_outer(rows, 2 * components, a_step, depth, b_step, width, out);
}

// The matrices of all degrees.
void add_mixed(int n, const REAL *a, ptrdiff_t a_step, int depth, const REAL *b, ptrdiff_t b_step, int width,
               REAL *out) {
    for (int l = 0; l <= L; ++l) {
        const ptrdiff_t row = ptrdiff_t(l) * l * 2 * n;
        add_slopes(n, 2 * l + 1, a + row * a_step, a_step, depth, b + row * b_step, b_step, width,
                   out + size_t(l) * depth * width);
    }
}

// ---------------------------------------------------------------------------------------- where gradients are summed

template <int LO> struct BlockGradients {
    size_t factors, product[LO + 1], hidden, hidden_bias, gates, gates_bias;
    size_t place(size_t next) {
        factors = next;
        next += size_t(L + 1) * C * 2 * C;
        for (int l = 0; l <= LO; ++l) {
            product[l] = next;
            next += size_t(N_PATHS[l]) * C * C;
        }
        hidden = next;
        hidden_bias = hidden + size_t(C) * C;
        gates = hidden_bias + C;
        gates_bias = gates + size_t(LO + 1) * C * C;
        return gates_bias + (LO + 1) * C;
    }
};

struct InteractionGradients {
    size_t down, radial, up;
};

// Places in one array, in the order in which Weights::read takes the weights.
struct Gradients {
    size_t density, embedding, gain, readout, readout_bias, energy_weight, energy_bias, total;
    std::vector<BlockGradients<L>> full;
    BlockGradients<0> last;
    std::vector<InteractionGradients> interactions;

    explicit Gradients(const Weights &w) : full(w.n_interactions), interactions(w.n_interactions) {
        density = 0;
        embedding = size_t(L + 1) * w.n_species * N_RADIAL * C;
        gain = embedding + size_t(w.n_species) * C;
        size_t next = gain + size_t(w.n_species) * (L + 1) * C;
        for (int t = 0; t <= w.n_interactions; ++t) {
            if (t > 0) {
                interactions[t - 1] = {next, next + size_t(L + 1) * C * D,
                                       next + size_t(L + 1) * C * D + size_t(N_WEIGHTS) * N_RADIAL};
                next = interactions[t - 1].up + size_t(L + 1) * D * C;
            }
            next = t < w.n_interactions ? full[t].place(next) : last.place(next);
        }
        readout = next;
        readout_bias = readout + size_t(C) * C;
        energy_weight = readout_bias + C;
        energy_bias = energy_weight + C;
        total = energy_bias + 1;
    }
};

// --------------------------------------------------------------------------------------------------- layers of atoms

template <int LO> struct Kept {
    static constexpr int OUT = (LO + 1) * (LO + 1);
    static constexpr int PER_ATOM = 2 * (K + 2 * K + 2 * OUT + 2 + (LO + 1)) * C;  // values and changes
    REAL *in, *factors, *x, *out, *hidden, *active, *gates;
    Kept(REAL *at, int n) {
        const ptrdiff_t one = ptrdiff_t(2) * n * C;
        in = at;
        factors = in + K * one;
        x = factors + 2 * K * one;
        out = x + OUT * one;
        hidden = out + OUT * one;
        active = hidden + one;
        gates = active + one;
    }
};

template <int LO> void couple_both(int n, const REAL *factors, REAL *coupled) {
    const ptrdiff_t step = ptrdiff_t(2 * n) * 2 * C;
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES) {
            const REAL *left = factors + i * 2 * C + c, *right = left + C;
            const REAL *left_change = left + n * 2 * C, *right_change = right + n * 2 * C;
            couple<LO, false>(left, right, step, coupled + c, 2 * n, i);
            couple<LO, false>(left_change, right, step, coupled + c, 2 * n, n + i);
            couple<LO, true>(left, right_change, step, coupled + c, 2 * n, n + i);
        }
}

// kept.in (K, 2 n, C) to kept.out (OUT, 2 n, C)
template <int LO> void forward(const BlockWeights<LO> &w, int n, Kept<LO> kept, REAL *coupled) {
    constexpr int OUT = Kept<LO>::OUT;
    const int both = 2 * n;
    mix(both, L, kept.in, C, w.factors, kept.factors, 2 * C);
    couple_both<LO>(n, kept.factors, coupled);
    const REAL *of_degree = coupled;
    for (int l = 0; l <= LO; ++l) {
        const int rows = (2 * l + 1) * both, depth = N_PATHS[l] * C;
        multiply(rows, of_degree, depth, w.product[l], kept.x + ptrdiff_t(l) * l * both * C, C);
        of_degree += ptrdiff_t(rows) * depth;
    }
    for (ptrdiff_t i = 0; i < ptrdiff_t(OUT) * both * C; i += LANES)
        store(kept.x + i, load(kept.in + i) + REAL(0.5) * load(kept.x + i));
    multiply(both, kept.x, C, w.hidden, kept.hidden, C);
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES) {
            REAL *here = kept.hidden + i * C + c;
            const V z = load(here) + load(&w.hidden_bias[c]), s = sigmoid(z);
            store(here, z);
            store(kept.active + i * C + c, z * s);
            store(kept.active + (n + i) * C + c, s * (1 + z * (1 - s)) * load(here + n * C));
        }
    multiply(both, kept.active, C, w.gates, kept.gates, (LO + 1) * C);
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < (LO + 1) * C; ++c) kept.gates[i * (LO + 1) * C + c] += w.gates_bias[c];
    for (int k = 0; k < OUT; ++k)
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; c += LANES) {
                const ptrdiff_t gate_at = (i * (LO + 1) + degree(k)) * C + c, at = (k * both + i) * C + c;
                const V gate = load(kept.gates + gate_at), gate_change = load(kept.gates + gate_at + n * (LO + 1) * C);
                const V here = load(kept.x + at), change = load(kept.x + at + n * C);
                store(kept.out + at, k == 0 ? here + gate : here + here * gate);
                store(kept.out + at + n * C, k == 0 ? change + gate_change : change + change * gate + here * gate_change);
            }
}

// slope (OUT, 2 n, C) of the output to slope_in (K, 2 n, C), adding up gradients; slope is overwritten
template <int LO>
void backward(const BlockWeights<LO> &w, const BlockGradients<LO> &places, int n, Kept<LO> kept, REAL *slope,
              REAL *slope_in, REAL *coupled, REAL *slope_coupled, REAL *slope_factors, REAL *gradients) {
    constexpr int OUT = Kept<LO>::OUT;
    const int both = 2 * n;
    alignas(64) REAL of_gates[MOST_ROWS * (LO + 1) * C], of_hidden[MOST_ROWS * C];
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES) {
            V of_gate[LO + 1] = {}, of_gate_change[LO + 1] = {};
            of_gate[0] = load(slope + i * C + c);
            of_gate_change[0] = load(slope + (n + i) * C + c);
            for (int k = 1; k < OUT; ++k) {
                const ptrdiff_t at = (k * both + i) * C + c, gate_at = (i * (LO + 1) + degree(k)) * C + c;
                const V g = load(slope + at), g_change = load(slope + at + n * C);
                const V x = load(kept.x + at), x_change = load(kept.x + at + n * C);
                const V gate = load(kept.gates + gate_at), gate_change = load(kept.gates + gate_at + n * (LO + 1) * C);
                of_gate[degree(k)] += g * x;
                of_gate_change[degree(k)] += g_change * x + g * x_change;
                store(slope + at, g + g * gate);
                store(slope + at + n * C, g_change + g_change * gate + g * gate_change);
            }
            for (int l = 0; l <= LO; ++l) {
                store(of_gates + (i * (LO + 1) + l) * C + c, of_gate[l]);
                store(of_gates + ((n + i) * (LO + 1) + l) * C + c, of_gate_change[l]);
            }
        }
    add_slopes(n, 1, of_gates, (LO + 1) * C, (LO + 1) * C, kept.active, C, C, gradients + places.gates);
    for (int i = n; i < both; ++i)
        for (int c = 0; c < (LO + 1) * C; ++c) gradients[places.gates_bias + c] += of_gates[i * (LO + 1) * C + c];
    multiply(both, of_gates, (LO + 1) * C, w.gates_t, of_hidden, C);
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES) {
            REAL *here = of_hidden + i * C + c, *change = here + n * C;
            const V z = load(kept.hidden + i * C + c), z_change = load(kept.hidden + (n + i) * C + c), s = sigmoid(z);
            const V first = s * (1 + z * (1 - s));  // derivatives of z sigmoid(z)
            const V second = s * (1 - s) * (2 + z * (1 - 2 * s));
            store(change, load(change) * first + load(here) * second * z_change);
            store(here, load(here) * first);
        }
    add_slopes(n, 1, of_hidden, C, C, kept.x, C, C, gradients + places.hidden);
    for (int i = n; i < both; ++i)
        for (int c = 0; c < C; ++c) gradients[places.hidden_bias + c] += of_hidden[i * C + c];
    multiply<true>(both, of_hidden, C, w.hidden_t, slope, C);
    std::memcpy(slope_in, slope, sizeof(REAL) * OUT * both * C);
    std::memset(slope_in + ptrdiff_t(OUT) * both * C, 0, sizeof(REAL) * (K - OUT) * both * C);
    for (ptrdiff_t i = 0; i < ptrdiff_t(OUT) * both * C; i += LANES) store(slope + i, REAL(0.5) * load(slope + i));
    couple_both<LO>(n, kept.factors, coupled);  // once more: that takes less than keeping it
    ptrdiff_t at = 0;
    for (int l = 0; l <= LO; ++l) {
        const int rows = (2 * l + 1) * both, depth = N_PATHS[l] * C;
        const REAL *of_degree = slope + ptrdiff_t(l) * l * both * C;
        multiply(rows, of_degree, C, w.product_t[l], slope_coupled + at, depth);
        add_slopes(n, 2 * l + 1, coupled + at, depth, depth, of_degree, C, C, gradients + places.product[l]);
        at += ptrdiff_t(rows) * depth;
    }
    const ptrdiff_t step = ptrdiff_t(both) * 2 * C;
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES) {
            const REAL *left = kept.factors + i * 2 * C + c, *right = left + C;
            REAL *to_left = slope_factors + i * 2 * C + c, *to_right = to_left + C;
            const ptrdiff_t change = ptrdiff_t(n) * 2 * C;
            const REAL *g = slope_coupled + c;
            couple_back<LO, false>(left, right, step, g, both, i, to_left, to_right);
            couple_back<LO, false>(left, right, step, g, both, n + i, to_left + change, to_right + change);
            couple_back<LO, true>(left + change, right + change, step, g, both, i, to_left + change, to_right + change);
        }
    add_mixed(n, kept.in, C, C, slope_factors, 2 * C, 2 * C, gradients + places.factors);
    mix<true>(both, L, slope_factors, 2 * C, w.factors_t, slope_in, C);
}

// ----------------------------------------------------------------------------------------------------------- edges

struct Moving {  // how fast an edge changes
    REAL radial[RADIAL], harmonics[K];
};

inline void set_moving(const Edge &edge, const double *v, Moving &moving) {
    const REAL velocity[3] = {REAL(v[0]), REAL(v[1]), REAL(v[2])};
    const REAL along = edge.u[0] * velocity[0] + edge.u[1] * velocity[1] + edge.u[2] * velocity[2];
    REAL turn[3];
    for (int a = 0; a < 3; ++a) turn[a] = (velocity[a] - edge.u[a] * along) * edge.inverse;
    for (int r = 0; r < RADIAL; ++r) moving.radial[r] = edge.slope[r] * along;
    harmonics_change(edge.u, edge.harmonics, turn, moving.harmonics);
}

struct Neighbors {  // of one atom
    int64_t count;
    const Edge *edges;
    const Moving *moving;
    const int64_t *index;
    ptrdiff_t changes;  // from an array of atoms to that of its changes
};

struct EdgeWeights {  // of a few edges
    alignas(64) REAL value[EDGES_AT_ONCE * N_WEIGHTS], change[EDGES_AT_ONCE * N_WEIGHTS];
    void set(int n, const Edge *edges, const Moving *moving, const Matrix &radial) {
        multiply(n, edges->radial, sizeof(Edge) / sizeof(REAL), radial, value, N_WEIGHTS);
        multiply(n, moving->radial, sizeof(Moving) / sizeof(REAL), radial, change, N_WEIGHTS);
    }
};

// m (PARTS, K, LANES) and its change, from h of the neighbours
void gather_messages(const Neighbors &at, const REAL *h, const Matrix &radial, REAL *m, REAL *m_change) {
    EdgeWeights weights;
    std::memset(m, 0, sizeof(REAL) * D * K);
    std::memset(m_change, 0, sizeof(REAL) * D * K);
    for (int64_t first = 0; first < at.count; first += EDGES_AT_ONCE) {
        const int n = int(std::min<int64_t>(EDGES_AT_ONCE, at.count - first));
        weights.set(n, at.edges + first, at.moving + first, radial);
        for (int part = 0; part < PARTS; ++part) {
            V acc[K], acc_change[K];
            for (int k = 0; k < K; ++k) {
                acc[k] = load(m + (part * K + k) * LANES);
                acc_change[k] = load(m_change + (part * K + k) * LANES);
            }
            for (int e = 0; e < n; ++e) {
                const REAL *of_j = h + at.index[first + e] * (D * K) + part * K * LANES, *change_j = of_j + at.changes;
                const ptrdiff_t place_at = e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                const REAL *w = weights.value + place_at, *w_change = weights.change + place_at;
                const REAL *y = at.edges[first + e].harmonics, *y_change = at.moving[first + e].harmonics;
                const V h0 = load(of_j), h0_change = load(change_j);
                acc[0] += load(w) * h0;
                acc_change[0] += load(w_change) * h0 + load(w) * h0_change;
                for (int l = 1; l <= L; ++l) {
                    const V w_place = load(w + l * LANES), w_turn = load(w + (L + l) * LANES);
                    const V w_turn_change = load(w_change + (L + l) * LANES), place = w_place * h0;
                    const V place_change = load(w_change + l * LANES) * h0 + w_place * h0_change;
                    for (int k = l * l; k < (l + 1) * (l + 1); ++k) {
                        const V hk = load(of_j + k * LANES);
                        acc[k] += y[k] * place + w_turn * hk;
                        acc_change[k] += y_change[k] * place + y[k] * place_change + w_turn_change * hk +
                                         w_turn * load(change_j + k * LANES);
                    }
                }
            }
            for (int k = 0; k < K; ++k) {
                store(m + (part * K + k) * LANES, acc[k]);
                store(m_change + (part * K + k) * LANES, acc_change[k]);
            }
        }
    }
}

// The way back: slopes of the atom's own features, and the gradient of the radial weights (N_RADIAL, N_WEIGHTS).
void gather_slopes(const Neighbors &at, const REAL *h, const REAL *slope_m, const REAL *slope_own, const Matrix &radial,
                   REAL *slope_h, REAL *slope_h_change, REAL *gradient) {
    EdgeWeights weights, slopes;
    std::memset(slope_h, 0, sizeof(REAL) * D * K);
    std::memset(slope_h_change, 0, sizeof(REAL) * D * K);
    for (int64_t first = 0; first < at.count; first += EDGES_AT_ONCE) {
        const int n = int(std::min<int64_t>(EDGES_AT_ONCE, at.count - first));
        weights.set(n, at.edges + first, at.moving + first, radial);
        for (int e = 0; e < n; ++e) {
            const REAL *y = at.edges[first + e].harmonics, *y_change = at.moving[first + e].harmonics;
            for (int part = 0; part < PARTS; ++part) {
                const REAL *of_j = h + at.index[first + e] * (D * K) + part * K * LANES, *change_j = of_j + at.changes;
                const REAL *own = slope_own + part * K * LANES, *own_change = own + at.changes;
                const ptrdiff_t place_at = e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                REAL *s = slopes.value + place_at, *s_change = slopes.change + place_at;
                const V h0 = load(of_j), h0_change = load(change_j);
                const V s0 = load(own), s0_change = load(own_change);
                store(s, s0 * h0);
                store(s_change, s0_change * h0 + s0 * h0_change);
                for (int l = 1; l <= L; ++l) {
                    V place = {}, place_change = {}, turn = {}, turn_change = {};
                    for (int k = l * l; k < (l + 1) * (l + 1); ++k) {
                        const V g = load(own + k * LANES), g_change = load(own_change + k * LANES);
                        const V hk = load(of_j + k * LANES);
                        place += g * y[k];
                        place_change += g_change * y[k] + g * y_change[k];
                        turn += g * hk;
                        turn_change += g_change * hk + g * load(change_j + k * LANES);
                    }
                    store(s + l * LANES, place * h0);
                    store(s_change + l * LANES, place_change * h0 + place * h0_change);
                    store(s + (L + l) * LANES, turn);
                    store(s_change + (L + l) * LANES, turn_change);
                }
            }
        }
        const Rows of_values{at.edges[first].radial, slopes.change, n}, of_changes{at.moving[first].radial, slopes.value, n};
        add_outer(&of_values, 1, sizeof(Edge) / sizeof(REAL), N_RADIAL, N_WEIGHTS, N_WEIGHTS, gradient);
        add_outer(&of_changes, 1, sizeof(Moving) / sizeof(REAL), N_RADIAL, N_WEIGHTS, N_WEIGHTS, gradient);
        for (int part = 0; part < PARTS; ++part) {
            V acc[K], acc_change[K];
            for (int k = 0; k < K; ++k) {
                acc[k] = load(slope_h + (part * K + k) * LANES);
                acc_change[k] = load(slope_h_change + (part * K + k) * LANES);
            }
            for (int e = 0; e < n; ++e) {
                const REAL *of_j = slope_m + at.index[first + e] * (D * K) + part * K * LANES;
                const REAL *change_j = of_j + at.changes;
                const ptrdiff_t place_at = e * N_WEIGHTS + part * (2 * L + 1) * LANES;
                const REAL *w = weights.value + place_at, *w_change = weights.change + place_at;
                const REAL *y = at.edges[first + e].harmonics, *y_change = at.moving[first + e].harmonics;
                acc[0] += load(w) * load(of_j);
                acc_change[0] += load(w_change) * load(of_j) + load(w) * load(change_j);
                for (int l = 1; l <= L; ++l) {
                    const V turn = load(w + (L + l) * LANES), turn_change = load(w_change + (L + l) * LANES);
                    V along = {}, along_change = {};
                    for (int k = l * l; k < (l + 1) * (l + 1); ++k) {
                        const V s = load(of_j + k * LANES), s_change = load(change_j + k * LANES);
                        along += y[k] * s;
                        along_change += y_change[k] * s + y[k] * s_change;
                        acc[k] += turn * s;
                        acc_change[k] += turn_change * s + turn * s_change;
                    }
                    const V place = load(w + l * LANES), place_change = load(w_change + l * LANES);
                    const REAL sign = l % 2 ? -1 : 1;  // the twin edge points the other way
                    acc[0] += sign * (place * along);
                    acc_change[0] += sign * (place_change * along + place * along_change);
                }
            }
            for (int k = 0; k < K; ++k) {
                store(slope_h + (part * K + k) * LANES, acc[k]);
                store(slope_h_change + (part * K + k) * LANES, acc_change[k]);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------- the model

struct Room {  // of one thread, for the arrays of a block
    alignas(64) REAL slope[K * MOST_ROWS * C], slope_in[K * MOST_ROWS * C], mixed[K * MOST_ROWS * C];
    alignas(64) REAL factors[2 * K * MOST_ROWS * C], coupled[N_COUPLED * MOST_ROWS * C];
    alignas(64) REAL slope_coupled[N_COUPLED * MOST_ROWS * C];
    alignas(64) REAL down[K * MOST_ROWS * D], m[MOST_ROWS * D * K];
    alignas(64) REAL hidden[MOST_ROWS * C], active[MOST_ROWS * C], of_hidden[MOST_ROWS * C];
    std::vector<REAL> gradients, radial;
};

struct Learning {
    const Weights &weights;
    const Structure &s;
    const double *velocities, *seeds;
    Gradients places;
    Blocks blocks;
    size_t atoms;
    std::vector<Edge> edges;
    std::vector<Moving> moving;
    std::vector<REAL> densities, kept_full, kept_last, h, slope_m, messages, between;
    std::vector<std::unique_ptr<Room>> rooms;

    Learning(const Weights &w, const Structure &s_, const double *velocities_, const double *seeds_, int threads)
        : weights(w), s(s_), velocities(velocities_), seeds(seeds_), places(w), atoms(size_t(s_.n_atoms)) {
        blocks.divide(s, ATOMS_AT_ONCE, threads);
        edges.resize(s.n_edges);
        moving.resize(s.n_edges);
        const size_t layers = w.n_interactions, features = 2 * atoms * D * K;
        densities.resize(2 * atoms * K * w.n_species * N_RADIAL);
        kept_full.resize(layers * atoms * Kept<L>::PER_ATOM);
        kept_last.resize(atoms * Kept<0>::PER_ATOM);
        h.resize(layers * features);
        messages.resize(layers * features);
        slope_m.resize(std::min<size_t>(2, layers) * features);
        between.resize(2 * atoms * K * C);
        for (int t = 0; t < threads; ++t) {
            rooms.emplace_back(new Room);
            rooms.back()->gradients.assign(places.total, 0);
            rooms.back()->radial.assign(layers * N_RADIAL * N_WEIGHTS, 0);
        }
    }

    int64_t first(int64_t b) const { return blocks.first_atom[b]; }
    Kept<L> kept(int t, int64_t b) {
        return {kept_full.data() + (t * atoms + first(b)) * Kept<L>::PER_ATOM, blocks.size(b)};
    }
    Kept<0> kept_of_last(int64_t b) { return {kept_last.data() + first(b) * Kept<0>::PER_ATOM, blocks.size(b)}; }
    REAL *features(std::vector<REAL> &of, int t) { return of.data() + size_t(t) * 2 * atoms * D * K; }
    REAL *density(int64_t b) { return densities.data() + size_t(2) * first(b) * K * weights.n_species * N_RADIAL; }
    Neighbors neighbors(int64_t atom) const {
        const int64_t p = blocks.first_edge[atom];
        return {blocks.first_edge[atom + 1] - p, edges.data() + p, moving.data() + p, s.neighbors + p,
                ptrdiff_t(atoms) * D * K};
    }

    void expand_block(int64_t b, REAL *at, REAL *x) {
        const int n = blocks.size(b);
        const ptrdiff_t width = weights.n_species * N_RADIAL;
        std::memset(at, 0, sizeof(REAL) * K * 2 * n * width);
        for (int i = 0; i < n; ++i) {
            const int64_t atom = first(b) + i;
            for (int64_t p = blocks.first_edge[atom]; p < blocks.first_edge[atom + 1]; ++p) {
                expand(s.vectors + 3 * p, weights.cutoff, edges[p]);
                set_moving(edges[p], velocities + 3 * p, moving[p]);
                REAL *to = at + i * width + s.species[s.neighbors[p]] * N_RADIAL, *change = to + n * width;
                for (int k = 0; k < K; ++k)
                    for (int r = 0; r < N_RADIAL; ++r) {
                        const ptrdiff_t here = k * 2 * n * width + r;
                        to[here] += edges[p].harmonics[k] * edges[p].radial[r];
                        change[here] += moving[p].harmonics[k] * edges[p].radial[r] +
                                        edges[p].harmonics[k] * moving[p].radial[r];
                    }
            }
        }
        mix(2 * n, L, at, width, weights.density, x, C);
        scale(b, x);
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; ++c) x[i * C + c] += weights.embedding[s.species[first(b) + i] * C + c];
    }

    // times the gains of the elements
    void scale(int64_t b, REAL *x) const {
        const int n = blocks.size(b);
        for (int k = 0; k < K; ++k)
            for (int row = 0; row < 2 * n; ++row) {
                const int64_t z = s.species[first(b) + row % n];
                const REAL *gain = weights.gain.data() + (z * (L + 1) + degree(k)) * C;
                for (int c = 0; c < C; ++c) x[(k * 2 * n + row) * C + c] *= weights.density_scale * gain[c];
            }
    }

    void contract_block(int64_t b, Room &room) {
        const int n = blocks.size(b);
        const ptrdiff_t width = weights.n_species * N_RADIAL;
        REAL *gradients = room.gradients.data(), *slope = room.slope_in;
        mix(2 * n, L, density(b), width, weights.density, room.mixed, C);
        for (int i = 0; i < n; ++i) {
            const int64_t z = s.species[first(b) + i];
            REAL *of_embedding = gradients + places.embedding + z * C;
            for (int c = 0; c < C; ++c) of_embedding[c] += slope[(n + i) * C + c];
            for (int k = 0; k < K; ++k) {
                REAL *of_gain = gradients + places.gain + (z * (L + 1) + degree(k)) * C;
                const ptrdiff_t at = (k * 2 * n + i) * C;
                for (int c = 0; c < C; ++c)
                    of_gain[c] += weights.density_scale * (room.mixed[at + c] * slope[at + n * C + c] +
                                                           room.mixed[at + n * C + c] * slope[at + c]);
            }
        }
        scale(b, slope);
        add_mixed(n, density(b), width, int(width), slope, C, C, gradients + places.density);
    }

    void forward_block(int t, int64_t b, Room &room) {
        const int n = blocks.size(b), both = 2 * n, layers = weights.n_interactions;
        REAL *in = t < layers ? kept(t, b).in : kept_of_last(b).in;
        if (t == 0) {
            expand_block(b, density(b), in);
        } else {
            const InteractionWeights &layer = weights.interactions[t - 1];
            for (int i = 0; i < n; ++i)
                gather_messages(neighbors(first(b) + i), features(h, t - 1), layer.radial, room.m + ptrdiff_t(i) * D * K,
                                room.m + ptrdiff_t(n + i) * D * K);
            REAL *m = features(messages, t - 1) + 2 * first(b) * D * K;
            take_in(both, room.m, weights.message_scale, m);
            std::memcpy(in, kept(t - 1, b).out, sizeof(REAL) * K * both * C);
            mix<true>(both, L, m, D, layer.up, in, C);
        }
        if (t < layers) {
            forward(weights.full[t], n, kept(t, b), room.coupled);
            mix(both, L, kept(t, b).out, C, weights.interactions[t].down, room.down, D);
            hand_out_both(n, room.down, features(h, t) + first(b) * D * K);
        } else {
            forward(weights.last, n, kept_of_last(b), room.coupled);
            read_out(b, kept_of_last(b).out, room);
            backward(weights.last, places.last, n, kept_of_last(b), room.slope, room.slope_in, room.coupled,
                     room.slope_coupled, room.factors, room.gradients.data());
            turn_back(t, b, room);
        }
    }

    void hand_out_both(int n, const REAL *x, REAL *of_atoms) const {
        hand_out(n, 2 * n, x, of_atoms);
        hand_out(n, 2 * n, x + ptrdiff_t(n) * D, of_atoms + ptrdiff_t(atoms) * D * K);
    }

    // Scalars x (2 n, C) to the slope of the energies in room.slope
    void read_out(int64_t b, const REAL *x, Room &room) {
        const int n = blocks.size(b);
        REAL *gradients = room.gradients.data();
        multiply(2 * n, x, C, weights.readout, room.hidden, C);
        for (int i = 0; i < n; ++i) {
            const REAL seed = REAL(seeds[first(b) + i]);
            gradients[places.energy_bias] += seed;
            for (int c = 0; c < C; c += LANES) {
                const V z = load(room.hidden + i * C + c) + load(&weights.readout_bias[c]), s = sigmoid(z);
                const V change = load(room.hidden + (n + i) * C + c), weight = load(&weights.energy_weight[c]);
                const V slope = s * (1 + z * (1 - s)), bend = s * (1 - s) * (2 + z * (1 - 2 * s));
                REAL *of_weight = gradients + places.energy_weight + c;
                store(of_weight, load(of_weight) + seed * (z * s) + slope * change);
                store(room.of_hidden + i * C + c, weight * slope);
                store(room.of_hidden + (n + i) * C + c, weight * (seed * slope + bend * change));
            }
            for (int c = 0; c < C; ++c) gradients[places.readout_bias + c] += room.of_hidden[(n + i) * C + c];
        }
        add_slopes(n, 1, room.of_hidden, C, C, x, C, C, gradients + places.readout);
        multiply(2 * n, room.of_hidden, C, weights.readout_t, room.slope, C);
    }

    // slope of the input of layer t, in room.slope_in, to what the layer before needs
    void turn_back(int t, int64_t b, Room &room) {
        const int n = blocks.size(b), both = 2 * n;
        if (t == 0) return contract_block(b, room);
        const REAL *m = features(messages, t - 1) + 2 * first(b) * D * K;
        add_mixed(n, m, D, D, room.slope_in, C, C, room.gradients.data() + places.interactions[t - 1].up);
        mix(both, L, room.slope_in, C, weights.interactions[t - 1].up_t, room.down, D);
        for (ptrdiff_t i = 0; i < ptrdiff_t(K) * both * D; i += LANES)
            store(room.down + i, weights.message_scale * load(room.down + i));
        hand_out_both(n, room.down, features(slope_m, (t - 1) % 2) + first(b) * D * K);
        std::memcpy(between.data() + 2 * first(b) * K * C, room.slope_in, sizeof(REAL) * K * both * C);
    }

    void backward_block(int t, int64_t b, Room &room) {
        const int n = blocks.size(b), both = 2 * n;
        const InteractionWeights &layer = weights.interactions[t - 1];
        const REAL *slopes = features(slope_m, (t - 1) % 2);
        for (int i = 0; i < n; ++i) {
            const int64_t atom = first(b) + i;
            gather_slopes(neighbors(atom), features(h, t - 1), slopes, slopes + atom * D * K, layer.radial,
                          room.m + ptrdiff_t(i) * D * K, room.m + ptrdiff_t(n + i) * D * K,
                          room.radial.data() + size_t(t - 1) * N_RADIAL * N_WEIGHTS);
        }
        take_in(both, room.m, 1, room.down);
        add_mixed(n, kept(t - 1, b).out, C, C, room.down, D, D, room.gradients.data() + places.interactions[t - 1].down);
        std::memcpy(room.slope, between.data() + 2 * first(b) * K * C, sizeof(REAL) * K * both * C);
        mix<true>(both, L, room.down, D, layer.down_t, room.slope, C);
        backward(weights.full[t - 1], places.full[t - 1], n, kept(t - 1, b), room.slope, room.slope_in, room.coupled,
                 room.slope_coupled, room.factors, room.gradients.data());
        turn_back(t - 1, b, room);
    }

    void run(int threads, REAL *gradients) {
        const int layers = weights.n_interactions;
        const int64_t count = blocks.count();
        Barrier barrier;
#pragma omp parallel num_threads(threads)
        {
            const Team team;
            Room &room = *rooms[team.me];
            const int64_t first_block = team.first(count), last_block = team.last(count);
            // blocks keep to their threads: sums come out the same each time
            for (int pass = 0; pass <= 2 * layers; ++pass) {
                for (int64_t b = first_block; b < last_block; ++b) {
                    if (pass <= layers)
                        forward_block(pass, b, room);
                    else
                        backward_block(2 * layers + 1 - pass, b, room);
                }
                barrier.wait(team.size);
            }
            const int64_t total = int64_t(places.total);
            for (int64_t q = team.first(total); q < team.last(total); ++q) {
                REAL sum_of_all = 0;
                for (const auto &each : rooms) sum_of_all += each->gradients[q];
                gradients[q] = sum_of_all;
            }
            barrier.wait(team.size);
        }
        for (int t = 0; t < layers; ++t)
            for (int kind = 0; kind < 2 * L + 1; ++kind)
                for (int channel = 0; channel < D; ++channel)
                    for (int r = 0; r < N_RADIAL; ++r) {
                        const size_t at = (size_t(t) * N_RADIAL + r) * N_WEIGHTS + InteractionWeights::place(kind, channel);
                        REAL total = 0;
                        for (const auto &each : rooms) total += each->radial[at];
                        gradients[places.interactions[t].radial + size_t(kind * D + channel) * N_RADIAL + r] = total;
                    }
    }
};

}  // namespace

extern "C" {

// How many weights there are.
int64_t learning_size(int n_species, int n_interactions) {
    Weights w;
    w.n_species = n_species;
    w.n_interactions = n_interactions;
    return int64_t(Gradients(w).total);
}

// Gradients of all weights, in their order, for velocities v (n_edges, 3) of edges and slopes s (n_atoms,) of energies.
// Edges as for equivariant_evaluate.  1: there is not enough memory.
int learning_gradients(int n_species, int n_interactions, double cutoff, double density_scale, double message_scale,
                       const REAL *weights, int64_t n_atoms, int64_t n_edges, const int64_t *species,
                       const int64_t *centers, const int64_t *neighbors, const double *vectors, const double *v,
                       const double *s, int threads, REAL *gradients) {
    try {
        Weights model;
        model.prepare(n_species, n_interactions, cutoff, density_scale, message_scale, weights);
        const Structure structure{n_atoms, n_edges, n_atoms, species, centers, neighbors, vectors};
        Learning(model, structure, v, s, threads).run(threads, gradients);
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
}
