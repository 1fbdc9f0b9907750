//! Tokens given out, read, forged and foreign.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::clock::Fold;
use crate::dot::Dot;

fn actor(number: u8) -> ActorId {
    ActorId::from_bytes([number; 16])
}

fn fold() -> Fold {
    Fold { number: FoldNumber(5), actor: actor(50), last: 7 }
}

/// What a replica knows: actors 0 to 2 everywhere, 3 only here.
struct Replica {
    keys: TokenKeys,
    names: ActorNames,
    folds: Folds,
}

impl Replica {
    fn new() -> Self {
        let mut names = ActorNames::default();
        for number in 0..3 {
            names.learned_everywhere(actor(number));
        }
        names.learn(actor(3));
        let mut folds = Folds::default();
        folds.learn(fold());
        Self { keys: TokenKeys::new(1, &[4; 32]), names, folds }
    }

    fn scope(&self) -> TokenScope<'_> {
        TokenScope {
            keys: &self.keys,
            names: &self.names,
            folds: &self.folds,
            folds_everywhere: FoldNumber(5),
            epoch: 9,
        }
    }
}

fn key() -> EntryKey {
    EntryKey::new(KeyspaceId(3), "key")
}

fn token(dots: impl IntoIterator<Item = Dot>) -> Token {
    Token { context: Arc::new(dots.into_iter().collect()), stamp: Stamp::at_ms(1_700_000_000_000) }
}

fn dot() -> impl Strategy<Value = Dot> {
    (0..5_u8, 1..30_u64).prop_map(|(number, counter)| Dot::new(actor(number), counter))
}

proptest! {
    #[test]
    fn a_token_gives_the_exact_context(dots in btree_set(dot(), 0..40), folded: bool, stamp: u32) {
        let replica = Replica::new();
        let mut context: Clock = dots.into_iter().collect();
        if folded {
            context.add_up_to(actor(50), 7);
            context.fold(fold());
        }
        let stamp = Stamp(u64::from(stamp));
        let token = Token { context: Arc::new(context), stamp };
        let bytes = replica.scope().issue(&key(), &token).unwrap();
        let read = replica.scope().verify(&key(), &bytes).unwrap();
        prop_assert_eq!(&read.context, &token.context);
        prop_assert!(read.stamp >= stamp && read.stamp.ms() <= stamp.ms() + 1);
    }

    #[test]
    fn no_changed_byte_passes(
        dots in btree_set(dot(), 0..20),
        at in any::<prop::sample::Index>(),
        by in 1..=255_u8,
        length in any::<prop::sample::Index>(),
    ) {
        let replica = Replica::new();
        let bytes = replica.scope().issue(&key(), &token(dots)).unwrap();
        let mut forged = bytes.clone();
        forged[at.index(bytes.len())] ^= by;
        prop_assert_eq!(replica.scope().verify(&key(), &forged), Err(TokenError::Invalid));
        let cut = &bytes[..length.index(bytes.len())];
        prop_assert_eq!(replica.scope().verify(&key(), cut), Err(TokenError::Invalid));
        forged.clone_from(&bytes);
        forged.push(by);
        prop_assert_eq!(replica.scope().verify(&key(), &forged), Err(TokenError::Invalid));
    }

    #[test]
    fn any_bytes_are_invalid(bytes in vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(Replica::new().scope().verify(&key(), &bytes), Err(TokenError::Invalid));
    }

    /// Content behind a MAC that holds is read without panic too: a newer version may have made it.
    #[test]
    fn any_signed_content_is_read_or_refused(mut content in vec(0..9_u8, 0..60)) {
        let replica = Replica::new();
        content.splice(0..0, [MIXED, 1, 3, 9]);
        let mac = replica.keys.sign(&key().key, &content);
        content.extend_from_slice(&mac);
        let read = replica.scope().verify(&key(), &content);
        prop_assert!(!matches!(read, Err(TokenError::Invalid | TokenError::Expired)));
    }
}

#[test]
fn three_actors_take_64_bytes_at_most() {
    let replica = Replica::new();
    let mut context = Clock::default();
    for number in 0..3 {
        context.add_up_to(actor(number), (1 << 28) - 1);
    }
    context.add_up_to(actor(50), 7);
    assert!(context.fold(fold()));
    let token = Token { context: Arc::new(context), stamp: Stamp::at_ms(1_700_000_000_000) };
    let bytes = replica.scope().issue(&key(), &token).unwrap();
    assert!(bytes.len() <= 64, "{} bytes", bytes.len());
}

#[test]
fn scope_is_told_apart_once_the_mac_holds() {
    let replica = Replica::new();
    let bytes = replica.scope().issue(&key(), &token([Dot::new(actor(1), 1)])).unwrap();
    let of = |scope: TokenScope<'_>, key: &EntryKey| scope.verify(key, &bytes).map(|_| ());
    assert_eq!(of(replica.scope(), &key()), Ok(()));
    let elsewhere = EntryKey::new(KeyspaceId(4), "key");
    let refused = TokenError::OtherKeyspace { of: KeyspaceId(3) };
    assert_eq!(of(replica.scope(), &elsewhere), Err(refused));
    let restored = TokenScope { epoch: 10, ..replica.scope() };
    assert_eq!(of(restored, &key()), Err(TokenError::OtherEpoch { of: 9 }));
    // Of another key and of another cluster: nothing is told.
    let other = EntryKey::new(KeyspaceId(3), "other");
    assert_eq!(of(replica.scope(), &other), Err(TokenError::Invalid));
    let foreign = TokenKeys::new(1, &[5; 32]);
    let foreign = TokenScope { keys: &foreign, epoch: 10, ..replica.scope() };
    assert_eq!(of(foreign, &elsewhere), Err(TokenError::Invalid));
}

#[test]
fn an_older_key_verifies_until_it_expires() {
    let mut replica = Replica::new();
    let old = replica.scope().issue(&key(), &token([])).unwrap();
    replica.keys.add(2, &[6; 32]);
    let new = replica.scope().issue(&key(), &token([])).unwrap();
    assert!(replica.scope().verify(&key(), &old).is_ok());
    replica.keys.expire(1);
    replica.keys.expire(2);
    assert_eq!(replica.scope().verify(&key(), &old), Err(TokenError::Expired));
    assert!(replica.scope().verify(&key(), &new).is_ok());
}

#[test]
fn an_actor_that_few_know_is_named_in_full() {
    let here = Replica::new();
    let young = here.scope().issue(&key(), &token([Dot::new(actor(3), 1)])).unwrap();
    let mut there = Replica::new();
    there.names = ActorNames::default();
    assert!(there.scope().verify(&key(), &young).is_ok());
    let known = here.scope().issue(&key(), &token([Dot::new(actor(1), 1)])).unwrap();
    let refused = there.scope().verify(&key(), &known);
    assert_eq!(refused, Err(TokenError::UnknownActor(actor(1).prefix())));
    let mut folded = Clock::default();
    folded.add_up_to(actor(50), 7);
    folded.fold(fold());
    let folded = Token { context: Arc::new(folded), stamp: Stamp::ZERO };
    let folded = here.scope().issue(&key(), &folded).unwrap();
    there.folds = Folds::default();
    let refused = there.scope().verify(&key(), &folded);
    assert_eq!(refused, Err(TokenError::UnknownFold(FoldNumber(5))));
}

/// A member that is cut off has not heard of the fold. It takes the token all the same.
#[test]
fn a_fold_that_few_know_is_not_named() {
    let here = Replica::new();
    let mut there = Replica::new();
    there.folds = Folds::default();
    let mut context: Clock = [Dot::new(actor(1), 1)].into_iter().collect();
    context.add_up_to(actor(50), 7);
    assert!(context.fold(fold()));
    let token = Token { context: Arc::new(context), stamp: Stamp::ZERO };
    let young = TokenScope { folds_everywhere: FoldNumber(4), ..here.scope() };
    let bytes = young.issue(&key(), &token).unwrap();
    for reader in [&here, &there] {
        let read = reader.scope().verify(&key(), &bytes).unwrap();
        assert!(read.context.same_dots(&token.context));
    }
}

/// Two actors with one prefix.
#[test]
fn b54_actors_that_clash_are_named_in_full() {
    let mut replica = Replica::new();
    let mut twin = *actor(1).as_bytes();
    twin[15] = 99;
    let twin = ActorId::from_bytes(twin);
    let before = replica.scope().issue(&key(), &token([Dot::new(actor(1), 1)])).unwrap();
    let clash = replica.names.learn(twin).unwrap();
    assert_eq!(clash, ActorClash { one: actor(1), other: twin });
    assert!(replica.names.learn(twin).is_some());
    let both = token([Dot::new(actor(1), 1), Dot::new(twin, 4)]);
    let bytes = replica.scope().issue(&key(), &both).unwrap();
    assert_eq!(replica.scope().verify(&key(), &bytes).unwrap().context, both.context);
    // Nobody can say which of the two an older token meant.
    let refused = replica.scope().verify(&key(), &before);
    assert_eq!(refused, Err(TokenError::UnknownActor(twin.prefix())));
}

#[test]
fn a_token_is_never_trimmed() {
    let replica = Replica::new();
    let holes = (1..3_000).map(|n| Dot::new(actor(1), 2 * n));
    let refused = replica.scope().issue(&key(), &token(holes)).unwrap_err();
    assert!(refused.bytes > TOKEN_BYTES_MAX);
    assert_eq!(replica.scope().verify(&key(), &[1; TOKEN_BYTES_MAX + 1]), Err(TokenError::Invalid));
}

proptest! {
    #[test]
    fn a_session_token_gives_the_exact_clock(dots in btree_set(dot(), 0..40), folded: bool) {
        let replica = Replica::new();
        let mut clock: Clock = dots.into_iter().collect();
        if folded {
            clock.add_up_to(actor(50), 7);
            prop_assert!(clock.fold(fold()));
        }
        let bytes = replica.scope().issue_session(&clock).unwrap();
        prop_assert_eq!(replica.scope().verify_session(&bytes), Ok(clock));
    }

    #[test]
    fn a_changed_session_token_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let replica = Replica::new();
        let seen: Clock = [Dot::new(actor(1), 4)].into_iter().collect();
        let mut bytes = replica.scope().issue_session(&seen).unwrap();
        let at = at.index(bytes.len());
        prop_assert_eq!(replica.scope().verify_session(&bytes[..at]), Err(TokenError::Invalid));
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(replica.scope().verify_session(&bytes), Err(TokenError::Invalid));
    }
}

#[test]
fn a_session_token_is_none_of_a_key_and_of_no_other_data() {
    let replica = Replica::new();
    let scope = replica.scope();
    let session = scope.issue_session(&Clock::default()).unwrap();
    let empty = EntryKey::new(KeyspaceId(3), "");
    for key in [key(), empty.clone()] {
        assert!(scope.verify(&key, &session).is_err(), "{key:?}");
    }
    let causal = scope.issue(&empty, &token([])).unwrap();
    let refused = scope.verify_session(&causal);
    assert_eq!(refused, Err(TokenError::Unreadable(DecodeError::UnknownFormat(1))));
    let restored = TokenScope { epoch: 10, ..scope };
    assert_eq!(restored.verify_session(&session), Err(TokenError::OtherEpoch { of: 9 }));
}

#[test]
fn a_session_token_of_three_actors_takes_64_bytes() {
    let replica = Replica::new();
    let mut clock = Clock::default();
    for number in 0..3 {
        clock.add_up_to(actor(number), 5_000_000);
    }
    let bytes = replica.scope().issue_session(&clock).unwrap().len();
    assert!(bytes <= 64, "{bytes} bytes");
    clock.add(Dot::new(actor(0), 5_000_010));
    let more = replica.scope().issue_session(&clock).unwrap().len() - bytes;
    assert!(more <= 4, "{more} bytes more for a hole");
}

#[test]
fn a_session_token_with_too_many_holes_is_not_given_out() {
    let replica = Replica::new();
    let holes: Clock = (1..3_000).map(|n| Dot::new(actor(1), 2 * n)).collect();
    let full = replica.scope().issue_session(&holes).unwrap_err();
    assert!(full.bytes > SESSION_BYTES_MAX, "{full}");
}
