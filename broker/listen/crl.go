package listen

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// A revocation is an authority's list of certificates that are no longer good.
type revocation struct {
	*x509.RevocationList
	serials map[string]bool
}

func (r *revocation) over(now time.Time) bool {
	return !r.NextUpdate.IsZero() && !now.Before(r.NextUpdate)
}

// revocations are what a file of them holds.
type revocations []*revocation

// parseCRL reads lists in PEM, or one in DER. Each must be signed by one of the
// authorities; of two of one authority the newer counts.
func parseCRL(b []byte, authorities []*x509.Certificate) (revocations, error) {
	var ders [][]byte
	rest := b
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		ders = [][]byte{b}
	}
	lists := revocations{}
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, errors.New("is no list of revoked certificates, in PEM or DER")
		}
		if !signedByOne(list, authorities) {
			return nil, fmt.Errorf("the list of %s is signed by no authority of client_ca", list.Issuer)
		}
		r := &revocation{list, make(map[string]bool, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			r.serials[string(e.SerialNumber.Bytes())] = true
		}
		lists = lists.with(r)
	}
	return lists, nil
}

func signedByOne(list *x509.RevocationList, authorities []*x509.Certificate) bool {
	for _, ca := range authorities {
		if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// with adds a list, unless there is a newer one of the same authority.
func (all revocations) with(r *revocation) revocations {
	for i, o := range all {
		if bytes.Equal(o.RawIssuer, r.RawIssuer) && bytes.Equal(o.AuthorityKeyId, r.AuthorityKeyId) {
			if r.ThisUpdate.After(o.ThisUpdate) {
				all[i] = r
			}
			return all
		}
	}
	return append(all, r)
}

// revoked reports whether a certificate of the chains is on a list. With lists,
// there must be a valid one for the client's own certificate.
func (m *material) revoked(chains [][]*x509.Certificate) error {
	if m.lists == nil {
		return nil
	}
	err := errors.New("the client's certificate was not checked")
	for _, chain := range chains { // one good chain is enough
		if err = m.lists.check(chain, time.Now()); err == nil {
			return nil
		}
	}
	return err
}

func (all revocations) check(chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain {
		if i > 0 && i == len(chain)-1 {
			break // the root, which is trusted by itself
		}
		listed := false
		for _, r := range all {
			if !bytes.Equal(r.RawIssuer, c.RawIssuer) {
				continue
			}
			listed = true
			switch {
			case r.serials[string(c.SerialNumber.Bytes())]:
				return fmt.Errorf("the certificate %s of %s was revoked", c.SerialNumber.Text(16), c.Subject)
			case r.over(now):
				return fmt.Errorf("the list of revoked certificates of %s has run out", c.Issuer)
			}
		}
		if !listed && i == 0 {
			return fmt.Errorf("there is no list of revoked certificates of %s", c.Issuer)
		}
	}
	return nil
}
