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

#include "equivariant.h"

namespace {

constexpr int ATOMS_AT_ONCE = 16;

// Fills in the rows (n_atoms, width) behind the first n_centers; 0: done.
typedef int (*Exchange)(REAL *rows, int64_t width);

// --------------------------------------------------------------------------------------------------- layers of atoms

// Numbers of a layer that its gradient needs, for each atom.
template <int LO> struct Sizes {
    static constexpr int OUT = (LO + 1) * (LO + 1);
    static constexpr int KEPT = (2 * K + OUT + 1 + (LO + 1)) * C;  // both factors, output of the product, hidden, gates
};

template <int LO> struct Kept {
    REAL *factors, *x, *hidden, *gates;
    Kept(REAL *at, int n)
        : factors(at), x(at + ptrdiff_t(2 * K) * n * C), hidden(x + ptrdiff_t(Sizes<LO>::OUT) * n * C),
          gates(hidden + ptrdiff_t(n) * C) {}
};

// x (K, n, C) to out (OUT, n, C); coupled is room for N_COUPLED * n * C
template <int LO>
void forward(const BlockWeights<LO> &w, int n, const REAL *x, Kept<LO> kept, REAL *out, REAL *coupled) {
    constexpr int OUT = Sizes<LO>::OUT;
    mix(n, L, x, C, w.factors, kept.factors, 2 * C);
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES)
            couple<LO, false>(kept.factors + i * 2 * C + c, kept.factors + (i * 2 + 1) * C + c, ptrdiff_t(n) * 2 * C,
                              coupled + c, n, i);
    const REAL *of_degree = coupled;
    for (int l = 0; l <= LO; ++l) {
        const int rows = (2 * l + 1) * n, depth = N_PATHS[l] * C;
        multiply(rows, of_degree, depth, w.product[l], kept.x + ptrdiff_t(l) * l * n * C, C);
        of_degree += ptrdiff_t(rows) * depth;
    }
    for (ptrdiff_t i = 0; i < ptrdiff_t(OUT) * n * C; i += LANES)
        store(kept.x + i, load(x + i) + REAL(0.5) * load(kept.x + i));
    multiply(n, kept.x, C, w.hidden, kept.hidden, C);
    REAL active[ATOMS_AT_ONCE * C];
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES) {
            const V z = load(kept.hidden + i * C + c) + load(&w.hidden_bias[c]);
            store(kept.hidden + i * C + c, z);
            store(active + i * C + c, z * sigmoid(z));
        }
    multiply(n, active, C, w.gates, kept.gates, (LO + 1) * C);
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < (LO + 1) * C; ++c) kept.gates[i * (LO + 1) * C + c] += w.gates_bias[c];
    for (int k = 0; k < OUT; ++k)
        for (int i = 0; i < n; ++i)
            for (int c = 0; c < C; c += LANES) {
                const V gate = load(kept.gates + (i * (LO + 1) + degree(k)) * C + c);
                const V here = load(kept.x + (k * n + i) * C + c);
                store(out + (k * n + i) * C + c, k == 0 ? here + gate : here + here * gate);
            }
}

// slope (OUT, n, C) of the output to slope_x (K, n, C); slope is overwritten
template <int LO>
void backward(const BlockWeights<LO> &w, int n, Kept<LO> kept, REAL *slope, REAL *slope_x, REAL *coupled, REAL *slope_factors) {
    constexpr int OUT = Sizes<LO>::OUT;
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
    multiply(n, of_gates, (LO + 1) * C, w.gates_t, of_hidden, C);
    for (int i = 0; i < n * C; i += LANES) {
        const V z = load(kept.hidden + i), s = sigmoid(z);
        store(of_hidden + i, load(of_hidden + i) * s * (1 + z * (1 - s)));
    }
    multiply<true>(n, of_hidden, C, w.hidden_t, slope, C);
    std::memcpy(slope_x, slope, sizeof(REAL) * OUT * n * C);
    std::memset(slope_x + ptrdiff_t(OUT) * n * C, 0, sizeof(REAL) * (K - OUT) * n * C);
    for (ptrdiff_t i = 0; i < ptrdiff_t(OUT) * n * C; i += LANES) store(slope + i, REAL(0.5) * load(slope + i));
    REAL *of_degree = coupled;
    for (int l = 0; l <= LO; ++l) {
        const int rows = (2 * l + 1) * n, depth = N_PATHS[l] * C;
        multiply(rows, slope + ptrdiff_t(l) * l * n * C, C, w.product_t[l], of_degree, depth);
        of_degree += ptrdiff_t(rows) * depth;
    }
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < C; c += LANES)
            couple_back<LO, false>(kept.factors + i * 2 * C + c, kept.factors + (i * 2 + 1) * C + c,
                                   ptrdiff_t(n) * 2 * C, coupled + c, n, i, slope_factors + i * 2 * C + c,
                                   slope_factors + (i * 2 + 1) * C + c);
    mix<true>(n, L, slope_factors, 2 * C, w.factors_t, slope_x, C);
}

// -------------------------------------------------------------------------------------------------------- messages

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

// -------------------------------------------------------------------------------------------------------- the model

struct Room {  // of one thread, for the arrays of a block
    alignas(64) REAL density[K * ATOMS_AT_ONCE * C], x[K * ATOMS_AT_ONCE * C], slope[K * ATOMS_AT_ONCE * C];
    alignas(64) REAL factors[2 * K * ATOMS_AT_ONCE * C], coupled[N_COUPLED * ATOMS_AT_ONCE * C];
    alignas(64) REAL kept[Sizes<0>::KEPT * ATOMS_AT_ONCE], down[K * ATOMS_AT_ONCE * D], m[ATOMS_AT_ONCE * D * K];
    alignas(64) REAL hidden[ATOMS_AT_ONCE * C], active[ATOMS_AT_ONCE * C];
};

struct Evaluation {
    Weights weights;
    // of the last call
    Array edges_, kept_, between_, h_, slope_m_, of_density_, g_;
    Blocks blocks_;
    std::vector<std::unique_ptr<Room>> rooms_;
    std::vector<std::vector<double>> sums_;
    size_t atoms_ = 0, centers_ = 0;

    const Edge *edges(int64_t p) const { return reinterpret_cast<const Edge *>(edges_.at) + p; }
    REAL *h(int t) const { return h_.at + size_t(t) * atoms_ * D * K; }
    REAL *slope_m(int t) const { return slope_m_.at + size_t((t - 1) % 2) * atoms_ * D * K; }
    REAL *between(int64_t b) const { return between_.at + size_t(blocks_.first_atom[b]) * K * C; }
    Kept<L> kept(int t, int64_t b) const {
        return {kept_.at + (size_t(t) * centers_ + blocks_.first_atom[b]) * Sizes<L>::KEPT, blocks_.size(b)};
    }

    void prepare(const Structure &s, int threads) {
        atoms_ = size_t(s.n_atoms);
        centers_ = size_t(s.n_centers);
        blocks_.divide(s, ATOMS_AT_ONCE, threads);
        edges_.resize(size_t(s.n_edges) * (sizeof(Edge) / sizeof(REAL)));
        g_.resize(size_t(s.n_edges) * 3);
        kept_.resize(size_t(weights.n_interactions) * centers_ * Sizes<L>::KEPT);
        between_.resize(weights.n_interactions ? centers_ * K * C : 0);
        h_.resize(size_t(weights.n_interactions) * atoms_ * D * K);
        slope_m_.resize(std::min<size_t>(2, weights.n_interactions) * atoms_ * D * K);
        while (int(rooms_.size()) < threads) rooms_.emplace_back(new Room);
        while (int(sums_.size()) < threads) sums_.emplace_back();
        for (auto &sums : sums_) sums.resize(9 * atoms_);
        of_density_.resize(centers_ * K * weights.n_species * N_RADIAL);
    }

    // Density of a block (K, n, weights.n_species * N_RADIAL) into at, then mixed into x (K, n, C).
    void expand_block(const Structure &s, int64_t b, REAL *at, REAL *x) {
        const int n = blocks_.size(b);
        const ptrdiff_t width = weights.n_species * N_RADIAL;
        std::memset(at, 0, sizeof(REAL) * K * n * width);
        Edge *edges = reinterpret_cast<Edge *>(edges_.at);
        for (int i = 0; i < n; ++i) {
            const int64_t atom = blocks_.first_atom[b] + i;
            for (int64_t p = blocks_.first_edge[atom]; p < blocks_.first_edge[atom + 1]; ++p) {
                Edge &edge = edges[p];
                expand(s.vectors + 3 * p, weights.cutoff, edge);
                REAL *to = at + i * width + s.species[s.neighbors[p]] * N_RADIAL;
                for (int k = 0; k < K; ++k)
                    for (int r = 0; r < N_RADIAL; ++r) to[k * n * width + r] += edge.harmonics[k] * edge.radial[r];
            }
        }
        mix(n, L, at, width, weights.density, x, C);
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < n; ++i) {
                const int64_t z = s.species[blocks_.first_atom[b] + i];
                const REAL *of_gain = weights.gain.data() + (z * (L + 1) + degree(k)) * C;
                REAL *here = x + (k * n + i) * C;
                for (int c = 0; c < C; ++c) here[c] *= weights.density_scale * of_gain[c];
                if (k == 0)
                    for (int c = 0; c < C; ++c) here[c] += weights.embedding[z * C + c];
            }
    }

    // slope (K, n, C) of the mixed density to the gradients of the block's edges
    void contract_block(const Structure &s, int64_t b, REAL *slope, REAL *at) {
        const int n = blocks_.size(b);
        const ptrdiff_t width = weights.n_species * N_RADIAL;
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < n; ++i) {
                const int64_t z = s.species[blocks_.first_atom[b] + i];
                const REAL *of_gain = weights.gain.data() + (z * (L + 1) + degree(k)) * C;
                REAL *here = slope + (k * n + i) * C;
                for (int c = 0; c < C; ++c) here[c] *= weights.density_scale * of_gain[c];
            }
        for (int l = 0; l <= L; ++l) {
            const ptrdiff_t row = ptrdiff_t(l) * l * n;
            plain(( 2 * l + 1) * n, slope + row * C, weights.density_t[l], at + row * width, width);
        }
        for (int i = 0; i < n; ++i) {
            const int64_t atom = blocks_.first_atom[b] + i;
            for (int64_t p = blocks_.first_edge[atom]; p < blocks_.first_edge[atom + 1]; ++p) {
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
        multiply(n, x, C, weights.readout, room.hidden, C);
        for (int i = 0; i < n; ++i) {
            V energy = {};
            for (int c = 0; c < C; c += LANES) {
                const V z = load(room.hidden + i * C + c) + load(&weights.readout_bias[c]), s = sigmoid(z);
                const V weight = load(&weights.energy_weight[c]);
                energy += weight * z * s;
                store(room.active + i * C + c, weight * s * (1 + z * (1 - s)));
            }
            energies[i] = sum(energy) + weights.energy_bias;
        }
        multiply(n, room.active, C, weights.readout_t, x, C);
    }

    // Through the layers of one block up to where neighbours are needed next.
    void forward_block(const Structure &s, int t, int64_t b, Room &room, double *energies) {
        const int n = blocks_.size(b);
        if (t == 0) {
            expand_block(s, b, of_density(b), room.density);
        } else {
            const InteractionWeights &layer = weights.interactions[t - 1];
            for (int i = 0; i < n; ++i) {
                const int64_t atom = blocks_.first_atom[b] + i, p = blocks_.first_edge[atom];
                gather_messages(blocks_.first_edge[atom + 1] - p, edges(p), s.neighbors + p, h(t - 1), layer.radial,
                                room.m + ptrdiff_t(i) * D * K);
            }
            take_in(n, room.m, weights.message_scale, room.down);
            std::memcpy(room.density, between(b), sizeof(REAL) * K * n * C);
            mix<true>(n, L, room.down, D, layer.up, room.density, C);
        }
        if (t < weights.n_interactions) {
            forward(weights.full[t], n, room.density, kept(t, b), between(b), room.coupled);
            mix(n, L, between(b), C, weights.interactions[t].down, room.down, D);
            hand_out(n, n, room.down, h(t) + blocks_.first_atom[b] * D * K);
        } else {
            Kept<0> here(room.kept, n);
            forward(weights.last, n, room.density, here, room.slope, room.coupled);
            read_out(n, room.slope, energies + blocks_.first_atom[b], room);
            backward(weights.last, n, here, room.slope, room.x, room.coupled, room.factors);
            turn_back(s, t, b, room);
        }
    }

    // slope of the input of layer t, in room.x, to what the layer before needs
    void turn_back(const Structure &s, int t, int64_t b, Room &room) {
        const int n = blocks_.size(b);
        if (t == 0) {
            contract_block(s, b, room.x, of_density(b));
            return;
        }
        mix(n, L, room.x, C, weights.interactions[t - 1].up_t, room.down, D);
        for (ptrdiff_t i = 0; i < ptrdiff_t(K) * n * D; i += LANES)
            store(room.down + i, weights.message_scale * load(room.down + i));
        hand_out(n, n, room.down, slope_m(t) + blocks_.first_atom[b] * D * K);
        std::memcpy(between(b), room.x, sizeof(REAL) * K * n * C);
    }

    void backward_block(const Structure &s, int t, int64_t b, Room &room) {
        const int n = blocks_.size(b);
        const InteractionWeights &layer = weights.interactions[t - 1];
        for (int i = 0; i < n; ++i) {
            const int64_t atom = blocks_.first_atom[b] + i, p = blocks_.first_edge[atom];
            gather_slopes(blocks_.first_edge[atom + 1] - p, edges(p), s.neighbors + p, h(t - 1), slope_m(t),
                          slope_m(t) + atom * D * K, layer.radial, room.m + ptrdiff_t(i) * D * K, g_.at + 3 * p);
        }
        take_in(n, room.m, 1, room.down);
        std::memcpy(room.slope, between(b), sizeof(REAL) * K * n * C);
        mix<true>(n, L, room.down, D, layer.down_t, room.slope, C);
        backward(weights.full[t - 1], n, kept(t - 1, b), room.slope, room.x, room.coupled, room.factors);
        turn_back(s, t - 1, b, room);
    }

    REAL *of_density(int64_t b) { return of_density_.at + size_t(blocks_.first_atom[b]) * K * weights.n_species * N_RADIAL; }

    // What atoms without edges of their own stand for is computed elsewhere: others take it from `exchange` after each
    // pass.  Returns what that returned if it was not 0.
    int evaluate(const Structure &s, int threads, Exchange exchange, double *energies, double *g, double *forces,
                 double *virials) {
        prepare(s, threads);
        const int64_t blocks = blocks_.count();
        const int layers = weights.n_interactions;
        int failed = 0;
        Barrier barrier;
        std::vector<std::atomic<int64_t>> next(2 * layers + 1);  // block of each pass over them
        for (auto &each : next) each = 0;
#pragma omp parallel num_threads(threads)
        {
            const Team team;
            Room &room = *rooms_[team.me];
            const int64_t e0 = team.first(s.n_edges), e1 = team.last(s.n_edges);
            if (e1 > e0) std::memset(g_.at + 3 * e0, 0, sizeof(REAL) * 3 * (e1 - e0));
            std::vector<double> &mine = sums_[team.me];
            std::fill(mine.begin(), mine.end(), 0.0);
            barrier.wait(team.size);
            for (int pass = 0; pass <= 2 * layers; ++pass) {
                for (int64_t b = next[pass]++; b < blocks; b = next[pass]++) {
                    if (pass <= layers)
                        forward_block(s, pass, b, room, energies);
                    else
                        backward_block(s, 2 * layers + 1 - pass, b, room);
                }
                barrier.wait(team.size);
                if (!exchange || pass == 2 * layers) continue;
                if (team.me == 0) failed = exchange(pass < layers ? h(pass) : slope_m(2 * layers - pass), K * D);
                barrier.wait(team.size);
                if (failed) break;
            }
            for (int64_t p = e0; p < e1; ++p) add_mechanics(s, p, mine.data());
            if (g)
                for (int64_t q = 3 * e0; q < 3 * e1; ++q) g[q] = g_.at[q];
            barrier.wait(team.size);
            for (int64_t i = team.first(s.n_atoms); i < team.last(s.n_atoms); ++i)
                for (int q = 0; q < 9; ++q) {
                    double total = 0;
                    for (int other = 0; other < team.size; ++other) total += sums_[other][9 * i + q];
                    (q < 3 ? forces[3 * i + q] : virials[6 * i + q - 3]) = total;
                }
            barrier.wait(team.size);
        }
        return failed;
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

// Weights come one after the other in the order in which Weights::read takes them.
void *equivariant_create(int n_species, int n_interactions, double cutoff, double density_scale, double message_scale,
                         const REAL *weights) {
    try {
        auto model = std::make_unique<Evaluation>();
        model->weights.prepare(n_species, n_interactions, cutoff, density_scale, message_scale, weights);
        return model.release();
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void equivariant_destroy(void *model) { delete static_cast<Evaluation *>(model); }

// Energies (n_centers,), gradients g (n_edges, 3) unless null, forces (n_atoms, 3), virials (n_atoms, 6) in Voigt order,
// all in the unit of the model.  Edges are sorted by centre, and each has its twin, here or where the exchange (null:
// nowhere else) leads to.  1: there is not enough memory; otherwise what the exchange returned.
int equivariant_evaluate(void *model, int64_t n_atoms, int64_t n_edges, int64_t n_centers, const int64_t *species,
                         const int64_t *centers, const int64_t *neighbors, const double *vectors, int threads,
                         Exchange exchange, double *energies, double *g, double *forces, double *virials) {
    try {
        const Structure s{n_atoms, n_edges, n_centers, species, centers, neighbors, vectors};
        return static_cast<Evaluation *>(model)->evaluate(s, threads, exchange, energies, g, forces, virials);
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
}
